import itertools

import pytest

from gpt_oss_triton.config import NormalizerSettings
from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony.normalize import normalized_key, prompt_hash
from gpt_oss_triton.harmony.prompt import normalize_prompt
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.harmony.rendered_cache import RenderedPromptCache
from gpt_oss_triton.wire import Message, PromptInfo, PromptRequest

PROMPT = PromptRequest([Message("system", "Be brief."), Message("user", "Hi")])


def test_miss_then_hit_with_the_same_answer() -> None:
    cache, settings = RenderedPromptCache(), NormalizerSettings(prompt_version="v7")
    clock = itertools.count(1000.0).__next__
    ids, info = normalize_prompt(PROMPT, settings, cache, clock)
    assert ids == render(PROMPT)
    assert info == PromptInfo(prompt_hash(ids), normalized_key(PROMPT), "v7", "miss", "new", 1000.0, 1001.0)
    again, hit = normalize_prompt(PROMPT, settings, cache, clock)
    assert again == ids
    assert hit == PromptInfo(info.prompt_hash, info.normalized_key, "v7", "hit", "", 1002.0, 1003.0)


def test_whoever_changes_the_ids_changes_no_one_elses() -> None:
    cache, settings = RenderedPromptCache(), NormalizerSettings()
    normalize_prompt(PROMPT, settings, cache)[0].clear()
    assert normalize_prompt(PROMPT, settings, cache)[0] == render(PROMPT)


@pytest.mark.parametrize(
    ("prompt", "settings"),
    [
        (PROMPT, NormalizerSettings(prompt_version="v2")),
        (PROMPT, NormalizerSettings(prompt_date="2025-06-28")),
        (PromptRequest(PROMPT.messages, "high"), NormalizerSettings()),
        (PromptRequest([*PROMPT.messages[:1], Message("user", "Hi", name="bob")]), NormalizerSettings()),
    ],
)
def test_what_changes_the_prompt_misses(prompt: PromptRequest, settings: NormalizerSettings) -> None:
    cache = RenderedPromptCache()
    normalize_prompt(PROMPT, NormalizerSettings(), cache)
    ids, info = normalize_prompt(prompt, settings, cache)
    assert (info.cache, info.cache_reason) == ("miss", "new")
    assert ids == render(prompt, date=settings.prompt_date)


def test_a_bad_prompt_is_refused_before_the_cache() -> None:
    cache = RenderedPromptCache()
    with pytest.raises(InvalidRequest) as refused:
        normalize_prompt(PromptRequest([Message("user", "\ud800")]), NormalizerSettings(), cache)
    assert refused.value.param == "messages[0].content"
    assert cache.stats().misses == {}
