from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.admission.ask import Estimate
from frontend.admission.estimator import Estimator
from gpt_oss_triton.bench.workload import WORDS
from gpt_oss_triton.block_shape import BlockShape
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import Message, PromptRequest, ResponseFormat, Tool, ToolCall

CHINESE = "今天天气很好,我们去公园散步吧。"


def english(words: int, seed: int = 0) -> PromptRequest:
    return PromptRequest([Message("user", " ".join(random.Random(seed).choices(WORDS, k=words)))])


def test_the_answer_is_reserved_up_to_its_limit_and_the_setting() -> None:
    estimator = Estimator(output_reserve_tokens=1024)
    assert estimator.estimate(english(1), 64).output_tokens == 64
    assert estimator.estimate(english(1), 5000).output_tokens == 1024
    assert estimator.estimate(english(1), None).output_tokens == 1024


def test_before_anything_is_learned_it_is_right_within_a_half() -> None:
    for prompt in (english(300), PromptRequest([Message("user", CHINESE * 50)])):
        guess = Estimator(1024).estimate(prompt, 1).prompt_tokens
        assert guess == pytest.approx(len(render(prompt)), rel=0.5)


@pytest.mark.parametrize("text", ["english", "chinese"])
def test_it_learns_the_ratio_of_what_comes(text: str) -> None:
    estimator = Estimator(1024)

    def prompt(seed: int) -> PromptRequest:
        words = random.Random(seed).randint(50, 500)
        return (
            english(words, seed) if text == "english" else PromptRequest([Message("user", CHINESE * words)])
        )

    for seed in range(100):
        estimator.learn(estimator.estimate(prompt(seed), 1), len(render(prompt(seed))))
    for seed in range(100, 120):
        assert estimator.estimate(prompt(seed), 1).prompt_tokens == pytest.approx(
            len(render(prompt(seed))), rel=0.05, abs=5
        )


def test_instructions_turns_and_reasoning_count() -> None:
    prompt = PromptRequest(
        [
            Message("system", "Be brief. " * 20),
            Message("user", "Why is the sky blue? " * 20),
            Message("assistant", "", reasoning="Rayleigh scattering. " * 20),
            Message("user", "Go on."),
        ]
    )
    assert Estimator(1).estimate(prompt, 1).prompt_tokens == pytest.approx(len(render(prompt)), rel=0.3)


def test_tools_calls_and_formats_count() -> None:
    schema = {"type": "object", "properties": {f"name{n}": {"type": "string"} for n in range(40)}}
    prompt = PromptRequest(
        [
            Message("user", "What is the weather like? " * 20),
            Message("assistant", tool_calls=[ToolCall("weather", '{"place": "Oslo"}' * 20)]),
            Message("tool", "Rain. " * 20, name="weather"),
        ],
        tools=[Tool("weather", "Tells the weather. " * 20, schema)],
        response_format=ResponseFormat("report", schema),
    )
    assert Estimator(1).estimate(prompt, 1).prompt_tokens == pytest.approx(len(render(prompt)), rel=0.5)


def test_a_raw_prompt_has_no_frame_and_ids_are_counted() -> None:
    estimator = Estimator(1)
    assert estimator.estimate(PromptRequest(token_ids=list(range(77))), 1).prompt_tokens == 77
    text = estimator.estimate(PromptRequest(text="x" * 400), 1)
    assert (text.prompt_tokens, text.text_bytes, text.frame_tokens) == (100, 400, 0)
    before = estimator.tokens_per_byte
    estimator.learn(estimator.estimate(PromptRequest(token_ids=[1] * 5000), 1), 5000)
    assert estimator.tokens_per_byte == before


def test_a_change_of_language_is_followed() -> None:
    estimator = Estimator(1024)
    for seed in range(200):
        estimator.learn(estimator.estimate(english(300, seed), 1), len(render(english(300, seed))))
    chinese = PromptRequest([Message("user", CHINESE * 100)])
    for _ in range(200):
        estimator.learn(estimator.estimate(chinese, 1), len(render(chinese)))
    assert estimator.estimate(chinese, 1).prompt_tokens == pytest.approx(len(render(chinese)), rel=0.05)


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), max_size=50),
)
def test_no_count_breaks_it(counts: list[tuple[int, int]]) -> None:
    estimator = Estimator(1024)
    for text_bytes, tokens in counts:
        estimator.learn(Estimate(0, 0, text_bytes, 56), tokens)
    assert math.isfinite(estimator.tokens_per_byte)
    assert estimator.estimate(english(10), 1).prompt_tokens >= 56


def test_blocks_are_whole_and_cached_ones_are_not_counted() -> None:
    estimate = Estimate(prompt_tokens=100, output_tokens=30)  # the last of which is not computed
    assert estimate.blocks(BlockShape(16)) == 9
    assert estimate.blocks(BlockShape(16), cached_tokens=96) == 3
    assert estimate.blocks(BlockShape(16, window=128)) == 18
    assert estimate.blocks(BlockShape(16, window=128), cached_tokens=96) == 6
