"""The prompt normalizer's work: records in, token ids and what is known of them out."""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Callable

from gpt_oss_triton import wire
from gpt_oss_triton.config import NormalizerSettings
from gpt_oss_triton.harmony.check import check
from gpt_oss_triton.harmony.normalize import normalized_key, prompt_hash
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.harmony.rendered_cache import RenderedPrompt, RenderedPromptCache


def normalize_prompt(
    prompt: wire.PromptRequest,
    settings: NormalizerSettings,
    cache: RenderedPromptCache,
    clock: Callable[[], float] = time.time,
) -> tuple[list[int], wire.PromptInfo]:
    """Render a prompt, or find it rendered.

    Args:
        clock: Unix seconds.

    Raises:
        InvalidRequest: see `render`.
    """
    started = clock()
    check(prompt)
    rendered, miss = cache.get_or_render(_exact_key(prompt, settings), lambda: _render(prompt, settings))
    info = wire.PromptInfo(
        prompt_hash=rendered.prompt_hash,
        normalized_key=rendered.normalized_key,
        prompt_version=settings.prompt_version,
        cache="hit" if miss is None else "miss",
        cache_reason=miss or "",
        started=started,
        finished=clock(),
    )
    return rendered.token_ids.tolist(), info


def _exact_key(prompt: wire.PromptRequest, settings: NormalizerSettings) -> str:
    """Of everything that determines the ids."""
    digest = hashlib.sha256(f"{settings.prompt_version}\0{settings.prompt_date}\0".encode())
    digest.update(wire.encode(prompt))
    return digest.hexdigest()


def _render(prompt: wire.PromptRequest, settings: NormalizerSettings) -> RenderedPrompt:
    ids = render(prompt, date=settings.prompt_date)
    return RenderedPrompt(array("i", ids), prompt_hash(ids), normalized_key(prompt))
