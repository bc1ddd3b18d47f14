"""The shape of a gpt-oss checkpoint, read from its `config.json`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_oss_triton.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding; `factor` above 1 means YaRN."""

    theta: float
    factor: float
    beta_fast: float
    beta_slow: float
    truncate: bool
    original_context: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    vocabulary: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: int
    experts_per_token: int
    intermediate: int
    sliding_window: int  # tokens a sliding layer sees, the current one included
    is_sliding: tuple[bool, ...]  # one for each layer
    rope: RopeConfig
    norm_eps: float
    swiglu_alpha: float
    swiglu_limit: float
    max_context: int
    dtype: str  # the dtype the checkpoint was written in, experts of an MXFP4 one excepted
    mxfp4: bool
    eos_token_ids: frozenset[int]

    @classmethod
    def from_checkpoint(cls, directory: Path) -> ModelConfig:
        """
        Raises:
            ConfigurationError: no readable gpt-oss configuration there.
        """
        raw = read_json(directory / "config.json")
        if raw.get("model_type") != "gpt_oss":
            raise ConfigurationError(
                f"{directory} holds a {raw.get('model_type', 'nameless')!r} model; this server runs gpt_oss only."
            )
        quantization = raw.get("quantization_config") or {}
        method = quantization.get("quant_method")
        if method not in (None, "mxfp4"):
            raise ConfigurationError(
                f"{directory} is quantized with {method!r}; mxfp4 and none are supported."
            )
        try:
            config = cls(
                vocabulary=raw["vocab_size"],
                hidden=raw["hidden_size"],
                layers=raw["num_hidden_layers"],
                heads=raw["num_attention_heads"],
                kv_heads=raw["num_key_value_heads"],
                head_dim=raw["head_dim"],
                experts=raw.get("num_local_experts") or raw["num_experts"],
                experts_per_token=raw.get("num_experts_per_tok") or raw["experts_per_token"],
                intermediate=raw["intermediate_size"],
                sliding_window=raw["sliding_window"],
                is_sliding=_layer_kinds(raw),
                rope=_rope(raw),
                norm_eps=raw.get("rms_norm_eps", 1e-5),
                swiglu_alpha=raw.get("swiglu_alpha", 1.702),
                swiglu_limit=raw.get("swiglu_limit", 7.0),
                max_context=raw["max_position_embeddings"],
                dtype=raw.get("dtype") or raw.get("torch_dtype") or "bfloat16",
                mxfp4=method == "mxfp4",
                eos_token_ids=_eos(directory, raw),
            )
        except KeyError as missing:
            raise ConfigurationError(f"{directory / 'config.json'} has no field {missing}.") from None
        except (AttributeError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{directory / 'config.json'} has a field of the wrong form: {error}"
            ) from None
        if len(config.is_sliding) != config.layers or not 0 < config.experts_per_token <= config.experts:
            raise ConfigurationError(
                f"{directory / 'config.json'} contradicts itself: {config.layers} layers and "
                f"{len(config.is_sliding)} layer_types, {config.experts_per_token} of {config.experts} experts."
            )
        return config


def read_json(path: Path) -> dict[str, Any]:
    """
    Raises:
        ConfigurationError: missing, unreadable, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path} does not exist; is {path.parent} a checkpoint directory?") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path} does not hold a JSON object.")
    return value


def _layer_kinds(raw: dict[str, Any]) -> tuple[bool, ...]:
    kinds = raw.get("layer_types")
    if kinds is None:
        return tuple(layer % 2 == 0 for layer in range(raw["num_hidden_layers"]))
    return tuple(kind == "sliding_attention" for kind in kinds)


def _rope(raw: dict[str, Any]) -> RopeConfig:
    # Published checkpoints write rope_theta and rope_scaling; transformers 5 folds both into rope_parameters.
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    return RopeConfig(
        theta=float(scaling.get("rope_theta") or raw.get("rope_theta") or 150_000.0),
        factor=float(scaling.get("factor", 1.0)),
        beta_fast=float(scaling.get("beta_fast", 32.0)),
        beta_slow=float(scaling.get("beta_slow", 1.0)),
        truncate=bool(scaling.get("truncate", True)),
        original_context=int(
            scaling.get("original_max_position_embeddings") or raw["max_position_embeddings"]
        ),
    )


def _eos(directory: Path, raw: dict[str, Any]) -> frozenset[int]:
    # generation_config knows all three ids that end decoding; config.json names only the first.
    path = directory / "generation_config.json"
    generation = read_json(path) if path.exists() else {}
    ids = generation.get("eos_token_id", raw.get("eos_token_id"))
    if ids is None:
        raise ConfigurationError(
            f"{directory} names no eos_token_id, neither in generation_config.json nor in config.json."
        )
    return frozenset([ids] if isinstance(ids, int) else ids)


def yarn_inverse_frequencies(rope: RopeConfig, head_dim: int) -> tuple[list[float], float]:
    """Per pair of dimensions the angle's step for one position, and the factor on cosine and sine.

    YaRN (arXiv 2309.00071): fast dimensions keep their frequency, slow ones are divided by `factor`, and
    those between ramp linearly.
    """
    pairs = head_dim // 2
    plain = [rope.theta ** (-2 * i / head_dim) for i in range(pairs)]
    if rope.factor <= 1:
        return plain, 1.0

    def dimension_turning(turns: float) -> float:
        return head_dim * math.log(rope.original_context / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension_turning(rope.beta_fast), dimension_turning(rope.beta_slow)
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, head_dim - 1)
    span = max(high - low, 0.001)
    slowed = (min(max((i - low) / span, 0.0), 1.0) for i in range(pairs))
    mixed = [f * (1 - s) + f / rope.factor * s for f, s in zip(plain, slowed, strict=True)]
    return mixed, 0.1 * math.log(rope.factor) + 1.0
