"""Reads a generation request from its tensors, in either of the forms that wire.py describes."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from gpt_oss_triton import wire
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.options import check_options
from gpt_oss_triton.triton_backend.inputs import Inputs
from gpt_oss_triton.wire import GenerationOptions, PromptInfo

# tensor -> the option it overrides
_SCALAR_OPTIONS = {
    wire.MAX_TOKENS: "max_tokens",
    wire.TEMPERATURE: "temperature",
    wire.TOP_P: "top_p",
    wire.FREQUENCY_PENALTY: "frequency_penalty",
    wire.PRESENCE_PENALTY: "presence_penalty",
    wire.SEED: "seed",
}
_UNSUPPORTED = (wire.GUIDED_DECODING_GUIDE, wire.GUIDED_DECODING_GUIDE_TYPE)


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Attributes:
    prompt: what the normalizer said of the prompt; None when the engine is called without it.
    streamed: many responses, or one.
    return_text: whether `text_output` is filled.
    """

    prompt_token_ids: list[int]
    prompt: PromptInfo | None
    options: GenerationOptions
    streamed: bool
    return_text: bool


def read_generation_request(inputs: Inputs) -> GenerationRequest:
    """Raises:
    InvalidRequest: a tensor or an option cannot be used; `param` names it.
    UnsupportedParameter: guided decoding was asked for.
    """
    for spec in _UNSUPPORTED:
        if spec in inputs:
            raise UnsupportedParameter(
                f"{spec.name} is not supported; {wire.OPTIONS.name} has grammar.", param=spec.name
            )
    prompt_token_ids = inputs.integers(wire.PROMPT_TOKEN_IDS)
    if not prompt_token_ids:
        raise InvalidRequest(
            f"{wire.PROMPT_TOKEN_IDS.name} must hold at least one token.", param=wire.PROMPT_TOKEN_IDS.name
        )
    options = _read_options(inputs)
    check_options(options)
    streamed = bool(inputs.scalar(wire.STREAM))
    return_text = inputs.scalar(wire.RETURN_TEXT) is not False
    batched = options.delivery is not None and options.delivery.ticket is not None
    if batched and (not streamed or return_text or options.logprobs is not None):
        raise InvalidRequest(
            "Batches hold the token ids of streamed answers: no text, no log-probabilities.", param="delivery"
        )
    return GenerationRequest(
        prompt_token_ids=prompt_token_ids,
        prompt=inputs.record(wire.PROMPT_INFO, PromptInfo),
        options=options,
        streamed=streamed,
        return_text=return_text,
    )


def _read_options(inputs: Inputs) -> GenerationOptions:
    options = inputs.record(wire.OPTIONS, GenerationOptions) or GenerationOptions()
    overrides = {name: inputs.scalar(spec) for spec, name in _SCALAR_OPTIONS.items() if spec in inputs}
    if (stop := inputs.texts(wire.STOP_WORDS, param="stop")) is not None:
        overrides["stop"] = stop
    return msgspec.structs.replace(options, **overrides)
