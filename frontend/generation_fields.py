"""What requests for chat and for text completions say alike: how tokens are chosen, where the answer ends, how it
is sent."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.wire import GenerationOptions

_SEEDS = 2**64

ServiceTier = Literal["auto", "default", "flex", "scale", "priority", "fast", "ultrafast"]
Seed = Annotated[int, Meta(ge=-(2**63))]  # OpenAI's are signed
TokenLimit = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class StreamOptions(Struct, forbid_unknown_fields=True):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class GenerationFields(Struct, kw_only=True):
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float = 1.0
    top_p: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] = {}
    seed: Seed | None = None
    stop: str | list[str] = []
    service_tier: ServiceTier = "auto"
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    return_token_ids: bool = False

    @property
    def include_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def flex(self) -> bool:
        return self.service_tier == "flex"

    def options(
        self, *, max_tokens: int | None, logprobs: int | None, grammar: str | None = None
    ) -> GenerationOptions:
        """The engine's options, not yet checked."""
        return GenerationOptions(
            max_tokens=max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            seed=None if self.seed is None else _unsigned(self.seed),
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            repetition_penalty=self.repetition_penalty,
            logit_bias=self.logit_bias,
            stop=[self.stop] if isinstance(self.stop, str) else self.stop,
            stop_token_ids=self.stop_token_ids,
            ignore_eos=self.ignore_eos,
            grammar=grammar,
            logprobs=logprobs,
        )


def check_stream(stream: bool, options: Struct | None) -> None:
    """Raises InvalidRequest for options of a stream that was not asked for."""
    if options is not None and not stream:
        raise InvalidRequest("stream_options needs stream: true.", param="stream_options")


def seeded(options: GenerationOptions, number: int) -> GenerationOptions:
    """Of one of several answers, counted from 0: each has a seed of its own, or all would be the same."""
    if options.seed is None or number == 0:
        return options
    return msgspec.structs.replace(options, seed=(options.seed + number) % _SEEDS)


def _unsigned(seed: int) -> int:
    """The engine's. What is too large stays so, to be refused."""
    return seed % _SEEDS if seed < 0 else seed
