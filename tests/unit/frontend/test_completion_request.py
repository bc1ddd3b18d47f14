from __future__ import annotations

import json
from typing import Any

import pytest

from frontend.completion_fields import FIELDS
from frontend.completion_request import CompletionRequest, read_completion
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.harmony.check import MAX_PROMPT_IDS
from gpt_oss_triton.wire import GenerationOptions, PromptRequest

MINIMAL = {"model": "m", "prompt": "Once"}

# OpenAI's specification 2.3.0, CreateCompletionRequest
OPENAI_FIELDS = {
    "model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n",
    "presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user",
}  # fmt: skip


def read(**fields: Any) -> Any:
    return read_completion(json.dumps({**MINIMAL, **fields}).encode())


def test_every_field_of_openai_is_in_the_table() -> None:
    assert FIELDS.keys() >= OPENAI_FIELDS


def test_the_honoured_fields_are_those_of_the_request() -> None:
    honoured = {name for name, field in FIELDS.items() if field.treatment == "honoured"}
    assert honoured == set(CompletionRequest.__struct_fields__)


@pytest.mark.parametrize("name", sorted(FIELDS.keys() - {"model", "prompt"}))
def test_null_is_as_good_as_absent(name: str) -> None:
    assert read(**{name: None}) == read()


def test_a_minimal_request_has_openais_defaults() -> None:
    completion = read()
    assert completion.choices == [(PromptRequest(text="Once"), GenerationOptions(max_tokens=16))]
    assert not completion.stream
    assert not completion.echo


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a", [PromptRequest(text="a")]),
        (["a", "b"], [PromptRequest(text="a"), PromptRequest(text="b")]),
        ([1, 2], [PromptRequest(token_ids=[1, 2])]),
        ([[1], [2, 3]], [PromptRequest(token_ids=[1]), PromptRequest(token_ids=[2, 3])]),
    ],
)
def test_forms_of_the_prompt(prompt: Any, expected: list[PromptRequest]) -> None:
    assert read(prompt=prompt).prompts == expected


def test_answers_are_ordered_by_prompt_and_seeds_follow_each_other() -> None:
    choices = read(prompt=["a", "b"], n=2, seed=2**64 - 1).choices
    assert [(prompt.text, options.seed) for prompt, options in choices] == [
        ("a", 2**64 - 1), ("a", 0), ("b", 2**64 - 1), ("b", 0),
    ]  # fmt: skip


def test_stop_strings_stay_with_the_shim() -> None:
    completion = read(stop="x", stop_token_ids=[7])
    assert completion.stop == ["x"]
    assert completion.options.stop == []
    assert completion.options.stop_token_ids == [7]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt[1]"),
        ({"prompt": ["a", ""]}, "prompt[1]"),
        ({"prompt": [[1], "a"]}, "prompt[1]"),
        ({"prompt": [[1], []]}, "prompt[1]"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [1, -1]}, "prompt"),
        ({"prompt": [[201_088]]}, "prompt[0]"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [{}]}, "prompt[0]"),
        ({"prompt": [1] * (MAX_PROMPT_IDS + 1)}, "prompt"),
        ({"prompt": [[1], [1] * (MAX_PROMPT_IDS + 1)]}, "prompt[1]"),
        ({"prompt": ["a"] * 129}, "prompt"),
        ({"prompt": ["a"] * 65, "n": 2}, "n"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": -1}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": [""]}, "stop"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"suffix": 5}, "suffix"),
        ({"promt": "x"}, "promt"),
    ],
)
def test_what_cannot_be_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(**fields)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"n": 2, "best_of": 3}, "best_of"),
        ({"suffix": "end"}, "suffix"),
        ({"echo": True, "logprobs": 0}, "logprobs"),
    ],
)
def test_what_is_not_served_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read(**fields)
    assert caught.value.param == param


def test_best_of_may_be_n() -> None:
    assert read(n=2, best_of=2) == read(n=2)
