"""What each engine can do, as records that cost nothing to read: no torch, no vLLM.

An option that its engine cannot serve is refused before the request is queued, by name. docs/engines.md shows
these records as a table; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from gpt_oss_triton.errors import UnsupportedParameter
from gpt_oss_triton.wire import GenerationOptions

# "no effect": accepted, though nothing comes of it: a script's answer is fixed, and a lease that nobody keeps
# costs time and changes no answer. "experimental": served, and proved by no test of this project.
Support = Literal["yes", "experimental", "no effect", "no"]
GpuMode = Literal["single", "pipeline", "tensor"]
EngineName = Literal["native", "scripted", "vllm"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Attributes:
    engine: its name in the settings and in `Load.engine`.
    needs_checkpoint: it computes a model.
    gpu_modes: of these, `single` is also what runs on a CPU.
    tune: `Engine.tune` changes the size of a step.
    prefix_cache: equal prompts share their blocks.
    speculation: tokens may be drafted, and come several at a time.

    The others are named for the options of a request that need them, see `OPTIONS`.
    """

    engine: EngineName
    needs_checkpoint: bool
    gpu_modes: tuple[GpuMode, ...]
    sampling: Support
    seed: Support
    penalties: Support
    logit_bias: Support
    logprobs: Support
    grammar: Support
    lease: Support
    cache_salt: Support
    prefix_cache: Support
    tune: Support
    speculation: Support


# capability -> the request's options that need it. What is not here, every engine must have: the limit, stop ids
# and strings, `ignore_eos`; and `delivery`, which is the carrier's.
OPTIONS: dict[str, tuple[str, ...]] = {
    "sampling": ("temperature", "top_p", "top_k", "min_p"),
    "seed": ("seed",),
    "penalties": ("frequency_penalty", "presence_penalty", "repetition_penalty"),
    "logit_bias": ("logit_bias",),
    "logprobs": ("logprobs",),
    "grammar": ("grammar",),
    "lease": ("lease",),
    "cache_salt": ("cache_salt",),
}
_NEUTRAL = GenerationOptions()

NATIVE = Capabilities(
    engine="native",
    needs_checkpoint=True,
    gpu_modes=("single", "pipeline", "tensor"),
    sampling="yes",
    seed="yes",
    penalties="yes",
    logit_bias="yes",
    logprobs="yes",
    grammar="yes",
    lease="yes",
    cache_salt="yes",
    prefix_cache="yes",
    tune="yes",
    speculation="yes",
)
SCRIPTED = Capabilities(
    engine="scripted",
    needs_checkpoint=False,
    gpu_modes=("single",),
    sampling="no effect",
    seed="no effect",
    penalties="no effect",
    logit_bias="no effect",
    logprobs="yes",
    grammar="no effect",
    lease="no effect",
    cache_salt="no effect",
    prefix_cache="no effect",
    tune="no effect",
    speculation="no",
)
VLLM = Capabilities(
    engine="vllm",
    needs_checkpoint=True,
    gpu_modes=("single", "pipeline", "tensor"),
    sampling="yes",
    seed="yes",
    penalties="yes",
    logit_bias="yes",
    logprobs="no",
    grammar="no",
    lease="no effect",
    cache_salt="yes",
    prefix_cache="yes",
    tune="no",
    speculation="no",
)
ALL = (NATIVE, SCRIPTED, VLLM)


def check_supported(capabilities: Capabilities, options: GenerationOptions) -> None:
    """
    Raises:
        UnsupportedParameter: `param` names the first option that this engine lacks.
    """
    for capability, names in OPTIONS.items():
        if getattr(capabilities, capability) != "no":
            continue
        for name in names:
            if getattr(options, name) != getattr(_NEUTRAL, name):
                raise UnsupportedParameter(
                    f"The {capabilities.engine} engine, which serves this model, does not support {name}.",
                    param=name,
                )


def table() -> list[tuple[str, ...]]:
    """A row for each capability: its name, then each engine's entry in the order of `ALL`."""
    rows = [field.name for field in fields(Capabilities) if field.name != "engine"]
    return [(row, *(_entry(getattr(capabilities, row)) for capabilities in ALL)) for row in rows]


def _entry(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
