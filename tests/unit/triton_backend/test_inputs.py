from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpt_oss_triton import wire
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.triton_backend.generation_request import read_generation_request
from gpt_oss_triton.triton_backend.inputs import Inputs
from gpt_oss_triton.wire import GenerationOptions, PromptInfo, PromptRequest

PROMPT = {"prompt_token_ids": np.array([1, 2, 3], dtype=np.int32)}


def texts(*values: str | bytes) -> np.ndarray[Any, Any]:
    return np.array([[v.encode() if isinstance(v, str) else v for v in values]], dtype=np.object_)


def test_absent_tensors_are_none(triton_request: Any) -> None:
    inputs = Inputs(triton_request())
    assert inputs.scalar(wire.SEED) is None
    assert inputs.text(wire.TEXT_INPUT) is None
    assert inputs.texts(wire.STOP_WORDS) is None
    assert inputs.integers(wire.PROMPT_TOKEN_IDS) is None
    assert inputs.record(wire.PROMPT, PromptRequest) is None


@pytest.mark.parametrize(
    ("prompt", "param"),
    [
        (b"\xff", "prompt"),
        (b"{", "prompt"),
        (b"[]", "prompt"),
        (b'{"messages": 1}', "messages"),
        (b'{"messages": [{"role": "bob"}]}', "messages"),
        (b'{"messages": [], "reasoning_effort": "huge"}', "reasoning_effort"),
        (b'{"messages": [], "x": ' + b"[" * 200_000, "prompt"),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "prompt"),
    ],
)
def test_a_record_that_cannot_be_read_names_the_place(triton_request: Any, prompt: bytes, param: str) -> None:
    inputs = Inputs(triton_request(prompt=texts(prompt)))
    with pytest.raises(InvalidRequest) as caught:
        inputs.record(wire.PROMPT, PromptRequest)
    assert caught.value.param == param


def test_defaults_of_a_generation(triton_request: Any) -> None:
    generation = read_generation_request(Inputs(triton_request(**PROMPT)))
    assert generation.prompt_token_ids == [1, 2, 3]
    assert generation.options == GenerationOptions()
    assert generation.prompt is None
    assert not generation.streamed
    assert generation.return_text


def test_a_scalar_overrides_its_option_and_no_other(triton_request: Any) -> None:
    info = PromptInfo("ab", "cd", "v1")
    request = triton_request(
        **PROMPT,
        options=texts('{"temperature": 0.25, "top_k": 7, "max_tokens": 5, "stop": ["a"]}'),
        prompt_info=texts(wire.encode(info)),
        max_tokens=np.array([[9]], dtype=np.int32),
        seed=np.array([[2**64 - 1]], dtype=np.uint64),
        stop_words=texts("x", "é"),
        stream=np.array([[True]]),
        return_text=np.array([[False]]),
    )
    generation = read_generation_request(Inputs(request))
    assert generation.options == GenerationOptions(
        temperature=0.25, top_k=7, max_tokens=9, seed=2**64 - 1, stop=["x", "é"]
    )
    assert generation.prompt == info
    assert generation.streamed
    assert not generation.return_text


@pytest.mark.parametrize(
    ("tensors", "param"),
    [
        ({"prompt_token_ids": np.array([], dtype=np.int32)}, "prompt_token_ids"),
        ({"temperature": np.array([[np.nan]], dtype=np.float32)}, "temperature"),
        ({"top_p": np.array([[np.inf]], dtype=np.float32)}, "top_p"),
        ({"max_tokens": np.array([[0]], dtype=np.int32)}, "max_tokens"),
        ({"stop_words": texts("")}, "stop"),
        ({"stop_words": texts(b"\xc3")}, "stop"),
        ({"options": texts('{"min_p": 2}')}, "min_p"),
        ({"options": texts('{"min_p": "x"}')}, "min_p"),
        ({"options": texts('{"logit_bias": {"x": 1}}')}, "logit_bias"),
        ({"prompt_info": texts("{}")}, "prompt_info"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    triton_request: Any, tensors: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_generation_request(Inputs(triton_request(**{**PROMPT, **tensors})))
    assert caught.value.param == param


@pytest.mark.parametrize("name", ["guided_decoding_guide", "guided_decoding_guide_type"])
def test_guided_decoding_is_refused(triton_request: Any, name: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        read_generation_request(Inputs(triton_request(**PROMPT, **{name: texts("{}")})))
    assert caught.value.param == name
