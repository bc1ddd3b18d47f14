"""How much of a long tool conversation the native engine finds in its cache, whatever the client sends back.

The tests' checkpoint has random weights. A grammar gives its answers their form, and biases have it think a while and
then write a call in the tokens in which such a text is encoded, as trained models do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from gpt_oss_triton.harmony.tokens import END, encode_text
from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

TURNS = 10
ARGUMENTS = '{"city": "Genève", "unit": "degrees"}'
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place.",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"const": "Genève"}, "unit": {"const": "degrees"}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
# Whatever stands higher is written first, where it may stand. Penalties, 4 for one use and 2 for each further one, end
# the thought, and keep a second one from following it.
WRITTEN = {
    **dict.fromkeys(encode_text("commentary to=functions.get_weather "), 40),
    **dict.fromkeys(encode_text("analysis"), 45),
    **dict.fromkeys(encode_text(ARGUMENTS), 50),
    END: 62,
    **dict.fromkeys(encode_text(" think"), 100),
}
ASK: dict[str, Any] = {
    "model": ENSEMBLE,
    "tools": [TOOL],
    "temperature": 0,
    "frequency_penalty": 2,
    "presence_penalty": 2,
    "logit_bias": {str(token): bias for token, bias in WRITTEN.items()},
    "max_completion_tokens": 100,
}


@pytest.fixture(scope="module")
def api(triton: TritonServer) -> Iterator[openai.OpenAI]:
    with ShimProcess(triton) as shim, shim.client() as client:
        yield client


def result(number: int) -> str:
    return " ".join(f"Day {day}: {(7 * day + number) % 30} degrees." for day in range(12))


def converse(api: openai.OpenAI, subject: str, *, echoes: bool) -> list[ChatCompletion]:
    """Nine calls in a row, each answered by its tool, and an answer."""
    messages: list[Any] = [{"role": "user", "content": f"{subject} What will the weather be?"}]
    answers = []
    for number in range(TURNS):
        choice = "none" if number == TURNS - 1 else "required"
        answer = api.chat.completions.create(**ASK, messages=messages, tool_choice=choice)
        answers.append(answer)
        message = answer.choices[0].message
        if message.tool_calls is None:
            break
        (call,) = message.tool_calls
        assert call.type == "function"
        assert call.function.arguments == ARGUMENTS
        echoed = message.model_dump(exclude_none=True)
        if not echoes:
            echoed.pop("reasoning", None)
        messages += [echoed, {"role": "tool", "tool_call_id": call.id, "content": result(number)}]
    return answers


def cached_share(answers: list[ChatCompletion]) -> float:
    """Of the prompt tokens that were computed before: all of each turn's prompt but what has come since the last one."""
    cached = known = 0
    for before, now in pairwise(answers):
        assert before.usage is not None
        assert now.usage is not None
        assert now.usage.prompt_tokens_details is not None
        cached += now.usage.prompt_tokens_details.cached_tokens or 0
        known += before.usage.total_tokens
    return cached / known


@pytest.mark.parametrize("echoes", [True, False], ids=["with its reasoning", "calls alone"])
def test_ten_turns(api: openai.OpenAI, echoes: bool) -> None:
    answers = converse(api, f"Echo: {echoes}.", echoes=echoes)
    assert len(answers) == TURNS
    thoughts = [answer.choices[0].message.reasoning for answer in answers[:-1]]  # type: ignore[attr-defined]
    assert len([thought for thought in thoughts if thought]) > TURNS / 2
    assert cached_share(answers) >= 0.95
