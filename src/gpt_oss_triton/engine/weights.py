"""A checkpoint's tensors, found by their published names and put where the model runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from gpt_oss_triton.engine.model_config import ModelConfig, read_json
from gpt_oss_triton.engine.part import Part
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
    embedding: torch.Tensor  # [vocabulary, hidden]; of a share its rows, as of the head
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

    def tensor(self, name: str, shape: tuple[int, ...], cut: tuple[slice, ...] = ()) -> torch.Tensor:
        """
        Args:
            shape: of the whole tensor.
            cut: along the first dimensions; nothing else is read from the file.

        Raises:
            ConfigurationError: not in the checkpoint, or of another shape.
        """
        if name not in self._files:
            raise ConfigurationError(f"{self.directory} has no tensor {name}.")
        with self._open(self._files[name]) as file:
            lazy = file.get_slice(name)
            if tuple(lazy.get_shape()) != shape:
                raise ConfigurationError(
                    f"{self.directory}: {name} has shape {lazy.get_shape()}, but its config.json asks for {list(shape)}."
                )
            # Whole ones are not copied out of the file's pages.
            is_whole = all(part.indices(size) == (0, size, 1) for part, size in zip(cut, shape, strict=False))
            found: torch.Tensor = file.get_tensor(name) if is_whole else lazy[cut]
        return found


class WeightLoader:
    """Loads one model's weights, or a part of them, onto one device in one dtype."""

    def __init__(
        self,
        directory: Path,
        config: ModelConfig,
        dtype: torch.dtype,
        device: torch.device,
        part: Part | None = None,
    ) -> None:
        """`config`: of the whole model. `part`: the whole model when None."""
        self._checkpoint = Checkpoint(directory)
        self._config = config
        self._dtype = dtype
        self._device = device
        self._part = part or Part.whole(config)

    def load(self) -> ModelWeights:
        """The part's layers and the model's ends."""
        c = self._config
        words = self._part.of(c.vocabulary)
        return ModelWeights(
            embedding=self._get("model.embed_tokens.weight", c.vocabulary, c.hidden, cut=(words,)),
            layers=self.layers(),
            norm=self._get("model.norm.weight", c.hidden),
            head=self._get("lm_head.weight", c.vocabulary, c.hidden, cut=(words,)),
        )

    def layers(self) -> list[LayerWeights]:
        """The part's layers alone."""
        return [self._layer(f"model.layers.{n}.") for n in range(self._part.first, self._part.last)]

    def _get(self, name: str, *shape: int, cut: tuple[slice, ...] = ()) -> torch.Tensor:
        return self._checkpoint.tensor(name, shape, cut).to(self._device, self._dtype)

    def _layer(self, prefix: str) -> LayerWeights:
        c, part, get = self._config, self._part, self._get
        attention, mlp = prefix + "self_attn.", prefix + "mlp."
        heads, kv = part.of(c.heads, c.head_dim), part.of(c.kv_heads, c.head_dim)
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        rows = {"q": (queries, heads), "k": (keys, kv), "v": (keys, kv)}
        return LayerWeights(
            attention_norm=get(prefix + "input_layernorm.weight", c.hidden),
            qkv=torch.cat(
                [get(f"{attention}{p}_proj.weight", n, c.hidden, cut=(own,)) for p, (n, own) in rows.items()]
            ),
            qkv_bias=torch.cat(
                [get(f"{attention}{p}_proj.bias", n, cut=(own,)) for p, (n, own) in rows.items()]
            ),
            sinks=get(attention + "sinks", c.heads, cut=(part.of(c.heads),)).float(),
            out=get(attention + "o_proj.weight", c.hidden, queries, cut=(slice(None), heads)).contiguous(),
            out_bias=self._once(get(attention + "o_proj.bias", c.hidden)),
            mlp_norm=get(prefix + "post_attention_layernorm.weight", c.hidden),
            router=get(mlp + "router.weight", c.experts, c.hidden),
            router_bias=get(mlp + "router.bias", c.experts),
            experts=self._experts(mlp + "experts."),
        )

    def _once(self, bias: torch.Tensor) -> torch.Tensor:
        """The shares' products are summed, so one share alone adds the bias."""
        return bias if self._part.share == 0 else torch.zeros_like(bias)

    def _experts(self, prefix: str) -> ExpertWeights | Mxfp4Experts:
        c, get = self._config, self._get
        own = (self._part.of(c.experts),)
        gate_up_bias = get(prefix + "gate_up_proj_bias", c.experts, 2 * c.intermediate, cut=own)
        down_bias = get(prefix + "down_proj_bias", c.experts, c.hidden, cut=own)
        if c.mxfp4:
            return Mxfp4Experts(
                gate_up=self._packed(prefix + "gate_up_proj", 2 * c.intermediate, c.hidden),
                gate_up_bias=gate_up_bias,
                down=self._packed(prefix + "down_proj", c.hidden, c.intermediate),
                down_bias=down_bias,
                alpha=c.swiglu_alpha,
                limit=c.swiglu_limit,
                first=own[0].start,
            )
        # Published unquantized experts are [experts, in, out].
        gate_up = get(prefix + "gate_up_proj", c.experts, c.hidden, 2 * c.intermediate, cut=own)
        down = get(prefix + "down_proj", c.experts, c.intermediate, c.hidden, cut=own)
        return ExpertWeights(
            gate_up=gate_up.mT.contiguous(),
            gate_up_bias=gate_up_bias,
            down=down.mT.contiguous(),
            down_bias=down_bias,
            alpha=c.swiglu_alpha,
            limit=c.swiglu_limit,
            first=own[0].start,
        )

    def _packed(self, name: str, rows: int, columns: int) -> Mxfp4Matrix:
        """The own ones of [experts, rows, columns] in MXFP4."""
        experts = self._config.experts
        own = (self._part.of(experts),)
        shape = (experts, rows, columns // BLOCK)
        blocks = self._checkpoint.tensor(name + "_blocks", (*shape, BLOCK // 2), own)
        scales = self._checkpoint.tensor(name + "_scales", shape, own)
        return Mxfp4Matrix(blocks.to(self._device), scales.to(self._device))
