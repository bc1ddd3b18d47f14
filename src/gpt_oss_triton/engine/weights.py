"""A checkpoint's tensors, found by their published names and put where the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from gpt_oss_triton.engine.model_config import ModelConfig, read_json
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts
from gpt_oss_triton.kernels.mxfp4 import BLOCK, Mxfp4Matrix


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One decoder layer; every matrix is [out, in]."""

    attention_norm: torch.Tensor
    qkv: torch.Tensor  # query, key and value rows in one matrix: one product for all three
    qkv_bias: torch.Tensor
    sinks: torch.Tensor  # [heads], float32
    out: torch.Tensor
    out_bias: torch.Tensor
    mlp_norm: torch.Tensor
    router: torch.Tensor
    router_bias: torch.Tensor
    experts: ExpertWeights | Mxfp4Experts


@dataclass(frozen=True, slots=True)
class ModelWeights:
    embedding: torch.Tensor  # [vocabulary, hidden]
    layers: list[LayerWeights]
    norm: torch.Tensor
    head: torch.Tensor  # [vocabulary, hidden]


class Checkpoint:
    """Reads tensors by name from one safetensors file or from an index of several."""

    def __init__(self, directory: Path) -> None:
        """
        Raises:
            ConfigurationError: no safetensors files there, or files that the index names are missing.
        """
        self.directory = directory
        index, single = directory / "model.safetensors.index.json", directory / "model.safetensors"
        if index.exists():
            self._files: dict[str, str] = read_json(index)["weight_map"]
        elif single.exists():
            with self._open(single.name) as file:
                self._files = dict.fromkeys(file.keys(), single.name)
        else:
            raise ConfigurationError(f"{directory} holds neither {single.name} nor {index.name}.")
        missing = sorted({name for name in self._files.values() if not (directory / name).exists()})
        if missing:
            raise ConfigurationError(f"{directory} is incomplete; missing: {', '.join(missing)}")

    def _open(self, name: str) -> safe_open:
        try:
            return safe_open(self.directory / name, framework="pt")
        except (OSError, SafetensorError) as error:
            raise ConfigurationError(f"{self.directory / name} cannot be read: {error}") from None

    def tensor(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """
        Raises:
            ConfigurationError: not in the checkpoint, or of another shape.
        """
        if name not in self._files:
            raise ConfigurationError(f"{self.directory} has no tensor {name}.")
        with self._open(self._files[name]) as file:
            found: torch.Tensor = file.get_tensor(name)
        if tuple(found.shape) != shape:
            raise ConfigurationError(
                f"{self.directory}: {name} has shape {list(found.shape)}, but its config.json asks for {list(shape)}."
            )
        return found


class WeightLoader:
    """Loads one model's weights onto one device in one dtype."""

    def __init__(
        self, directory: Path, config: ModelConfig, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._checkpoint = Checkpoint(directory)
        self._config = config
        self._dtype = dtype
        self._device = device

    def load(self) -> ModelWeights:
        c = self._config
        return ModelWeights(
            embedding=self._get("model.embed_tokens.weight", c.vocabulary, c.hidden),
            layers=[self._layer(f"model.layers.{n}.") for n in range(c.layers)],
            norm=self._get("model.norm.weight", c.hidden),
            head=self._get("lm_head.weight", c.vocabulary, c.hidden),
        )

    def _get(self, name: str, *shape: int) -> torch.Tensor:
        return self._checkpoint.tensor(name, shape).to(self._device, self._dtype)

    def _layer(self, prefix: str) -> LayerWeights:
        c, get = self._config, self._get
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        rows = {"q": queries, "k": keys, "v": keys}
        return LayerWeights(
            attention_norm=get(prefix + "input_layernorm.weight", c.hidden),
            qkv=torch.cat([get(f"{attention}{p}_proj.weight", n, c.hidden) for p, n in rows.items()]),
            qkv_bias=torch.cat([get(f"{attention}{p}_proj.bias", n) for p, n in rows.items()]),
            sinks=get(attention + "sinks", c.heads).float(),
            out=get(attention + "o_proj.weight", c.hidden, queries),
            out_bias=get(attention + "o_proj.bias", c.hidden),
            mlp_norm=get(prefix + "post_attention_layernorm.weight", c.hidden),
            router=get(mlp + "router.weight", c.experts, c.hidden),
            router_bias=get(mlp + "router.bias", c.experts),
            experts=self._experts(mlp + "experts."),
        )

    def _experts(self, prefix: str) -> ExpertWeights | Mxfp4Experts:
        c, get = self._config, self._get
        gate_up_bias = get(prefix + "gate_up_proj_bias", c.experts, 2 * c.intermediate)
        down_bias = get(prefix + "down_proj_bias", c.experts, c.hidden)
        if c.mxfp4:
            return Mxfp4Experts(
                gate_up=self._packed(prefix + "gate_up_proj", 2 * c.intermediate, c.hidden),
                gate_up_bias=gate_up_bias,
                down=self._packed(prefix + "down_proj", c.hidden, c.intermediate),
                down_bias=down_bias,
                alpha=c.swiglu_alpha,
                limit=c.swiglu_limit,
            )
        # Published unquantized experts are [experts, in, out].
        return ExpertWeights(
            gate_up=get(prefix + "gate_up_proj", c.experts, c.hidden, 2 * c.intermediate).mT.contiguous(),
            gate_up_bias=gate_up_bias,
            down=get(prefix + "down_proj", c.experts, c.intermediate, c.hidden).mT.contiguous(),
            down_bias=down_bias,
            alpha=c.swiglu_alpha,
            limit=c.swiglu_limit,
        )

    def _packed(self, name: str, rows: int, columns: int) -> Mxfp4Matrix:
        """[experts, rows, columns] in MXFP4."""
        shape = (self._config.experts, rows, columns // BLOCK)
        blocks = self._checkpoint.tensor(name + "_blocks", (*shape, BLOCK // 2))
        scales = self._checkpoint.tensor(name + "_scales", shape)
        return Mxfp4Matrix(blocks.to(self._device), scales.to(self._device))
