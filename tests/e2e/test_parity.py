"""From HTTP to the engine and back, the tokens are those of transformers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gpt_oss_triton.bench.workload import WORDS
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import Message, PromptRequest
from tests import oracle
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

NEW_TOKENS = 24
WINDOW = 128
CHUNK = 512  # the default max_step_tokens, which the fixture's server runs with


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton) as process:
        yield process


def conversations() -> list[list[dict[str, Any]]]:
    """Twenty: short, longer than the window, longer than a chunk, several turns, and shared prefixes."""
    rng = random.Random(4)

    def words(n: int) -> str:
        return " ".join(rng.choices(WORDS, k=n))

    made = [
        [{"role": "user", "content": words(n)}] for n in (1, 5, 20, 40, 60, 80, 100, 150, 200, 300, 450, 700)
    ]
    made += [[{"role": "developer", "content": words(30)}, *made[n]] for n in range(3)]
    made += [[*made[4], {"role": "assistant", "content": words(20)}, {"role": "user", "content": words(9)}]]
    shared = words(400)
    made += [
        [{"role": "system", "content": shared}, {"role": "user", "content": words(n)}]
        for n in (3, 9, 200, 201)
    ]
    return made


def ask(shim: ShimProcess, messages: list[dict[str, Any]]) -> dict[str, Any]:
    body = {
        "model": ENSEMBLE,
        "messages": messages,
        "temperature": 0,
        "max_completion_tokens": NEW_TOKENS,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    answer = httpx.post(f"{shim.url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_greedy_ids_over_http_equal_generate(shim: ShimProcess, tiny_checkpoint: Path) -> None:
    model = oracle.load(tiny_checkpoint)
    lengths, cached = [], 0
    asked = conversations()
    assert len(asked) == 20
    for messages in asked:
        answer = ask(shim, messages)
        prompt = render(PromptRequest([Message(**turn) for turn in messages]))
        assert answer["usage"]["prompt_tokens"] == len(prompt)
        assert answer["choices"][0]["token_ids"] == oracle.greedy(model, prompt, NEW_TOKENS), messages
        lengths.append(len(prompt))
        cached += answer["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert min(lengths) < WINDOW < CHUNK < max(lengths)
    assert cached, "the shared prefixes were meant to be shared"


def test_32_concurrent_answers_each_equal_their_solo_run(shim: ShimProcess) -> None:
    rng = random.Random(5)
    asked = [
        [{"role": "user", "content": " ".join(rng.choices(WORDS, k=rng.randrange(1, 120)))}]
        for _ in range(32)
    ]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda messages: ask(shim, messages), asked))
    for messages, answer in zip(asked, together, strict=True):
        alone = ask(shim, messages)
        assert alone["choices"] == answer["choices"]
