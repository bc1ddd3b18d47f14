"""The trained model as the few tensors that say all of it, and those as a checkpoint in the published layout.

The checkpoint's two tables of 201,088 rows are made from the spelling of the tokens, so nothing else needs to be
kept: everything but the experts as bfloat16, the experts as MXFP4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from gpt_oss_triton.checkpoint.build import Progress, write_planned
from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.checkpoint.weights import PlannedTensor
from gpt_oss_triton.demo.mixture import Mixture
from gpt_oss_triton.demo.model import Attention, DemoModel
from gpt_oss_triton.demo.vocabulary import Vocabulary
from gpt_oss_triton.kernels import mxfp4

Tensors = dict[str, torch.Tensor]

_ROWS = 1 << 14  # of the vocabulary, made at once
_TABLES = ("code", "spelling", "own_in", "own_out", "never")


@torch.no_grad()
def compact(model: DemoModel) -> Tensors:
    """bfloat16 and packed tensors: the layers' by their published names, the vocabulary's by ours."""
    vocabulary = model.vocabulary
    found = {f"vocabulary.{name}": getattr(vocabulary, name) for name in _TABLES}
    found["model.norm.weight"] = model.norm
    for layer, (attention, mixture) in enumerate(model.layers):
        for tensors in (_attention(attention, model.shape), _mixture(mixture)):
            found |= {f"model.layers.{layer}.{name}": tensor for name, tensor in tensors.items()}
    found = {n: t if t.dtype == torch.uint8 else t.bfloat16() for n, t in found.items()}
    found["vocabulary.own"] = vocabulary.own.int()
    return {name: tensor.cpu().contiguous() for name, tensor in found.items()}


def _attention(part: Attention, shape: Shape) -> Tensors:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    found: Tensors = {
        "input_layernorm.weight": part.norm, "self_attn.sinks": part.sinks,
        "self_attn.o_proj.weight": part.out, "self_attn.o_proj.bias": part.out_bias,
    }  # fmt: skip
    weights, biases = (torch.split(t, [queries, keys, keys]) for t in (part.qkv, part.qkv_bias))
    for name, weight, bias in zip("qkv", weights, biases, strict=True):
        found |= {f"self_attn.{name}_proj.weight": weight, f"self_attn.{name}_proj.bias": bias}
    return found


def _mixture(part: Mixture) -> Tensors:
    found: Tensors = {
        "post_attention_layernorm.weight": part.norm, "mlp.router.weight": part.router, "mlp.router.bias": part.router_bias,
        "mlp.experts.gate_up_proj_bias": _interleaved(part.gate_up_bias), "mlp.experts.down_proj_bias": part.down_bias,
    }  # fmt: skip
    for name, weight in (("gate_up_proj", _interleaved(part.gate_up)), ("down_proj", part.down)):
        found[f"mlp.experts.{name}_blocks"], found[f"mlp.experts.{name}_scales"] = mxfp4.quantize(weight)
    return found


def _interleaved(gate_up: torch.Tensor) -> torch.Tensor:
    """Gates before ups, along dimension 1 -> gate, up, gate, up …"""
    gate, up = gate_up.chunk(2, dim=1)
    return torch.stack((gate, up), dim=2).flatten(1, 2)


@torch.no_grad()
def restore(model: DemoModel, tensors: Tensors) -> None:
    """Give a model of the same sizes and own tokens what `compact` kept of another one."""
    for name in _TABLES:
        getattr(model.vocabulary, name).copy_(tensors[f"vocabulary.{name}"])
    model.norm.copy_(tensors["model.norm.weight"])
    for layer, (attention, mixture) in enumerate(model.layers):
        prefix = f"model.layers.{layer}."
        part = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        _restore_attention(attention, part)
        _restore_mixture(mixture, part)


def _restore_attention(part: Attention, tensors: Tensors) -> None:
    part.norm.copy_(tensors["input_layernorm.weight"])
    part.sinks.copy_(tensors["self_attn.sinks"])
    part.out.copy_(tensors["self_attn.o_proj.weight"])
    part.out_bias.copy_(tensors["self_attn.o_proj.bias"])
    part.qkv.copy_(torch.cat([tensors[f"self_attn.{name}_proj.weight"] for name in "qkv"]))
    part.qkv_bias.copy_(torch.cat([tensors[f"self_attn.{name}_proj.bias"] for name in "qkv"]))


def _restore_mixture(part: Mixture, tensors: Tensors) -> None:
    part.norm.copy_(tensors["post_attention_layernorm.weight"])
    part.router.copy_(tensors["mlp.router.weight"])
    part.router_bias.copy_(tensors["mlp.router.bias"])
    part.gate_up_bias.copy_(_apart(tensors["mlp.experts.gate_up_proj_bias"]))
    part.down_bias.copy_(tensors["mlp.experts.down_proj_bias"])
    gate_up, down = (
        mxfp4.dequantize(
            tensors[f"mlp.experts.{name}_blocks"], tensors[f"mlp.experts.{name}_scales"], torch.float32
        )
        for name in ("gate_up_proj", "down_proj")
    )
    part.gate_up.copy_(_apart(gate_up))
    part.down.copy_(down)


def _apart(interleaved: torch.Tensor) -> torch.Tensor:
    """gate, up, gate, up … along dimension 1 -> gates before ups."""
    return torch.cat((interleaved[:, ::2], interleaved[:, 1::2]), dim=1)


def write_checkpoint(
    tensors: Tensors,
    shape: Shape,
    out: Path,
    progress: Progress | None = None,
    last: Callable[[Path], None] = lambda directory: None,
) -> None:
    """Write the checkpoint of compact `tensors` to `out`, which appears under this name only when it is whole and `last`
    has seen it.

    Raises:
        FileExistsError: `out` is there and not an empty directory.
        OSError: too little space, or whatever writing met.
    """
    write_planned(_planned(tensors, shape), shape, "mxfp4", out, progress, last=last)


def _planned(tensors: Tensors, shape: Shape) -> list[PlannedTensor]:
    vocabulary = Vocabulary(shape.hidden, tensors["vocabulary.own"].tolist())
    vocabulary.load_state_dict({name: tensors[f"vocabulary.{name}"] for name in _TABLES})
    vocabulary.eval()
    size = (shape.vocabulary, shape.hidden)
    return [
        PlannedTensor("model.embed_tokens.weight", torch.bfloat16, size, lambda: _rows(vocabulary, 0)),
        *(_whole(name, tensor) for name, tensor in sorted(tensors.items()) if name.startswith("model.")),
        PlannedTensor("lm_head.weight", torch.bfloat16, size, lambda: _rows(vocabulary, 1)),
    ]


def _rows(vocabulary: Vocabulary, direction: int) -> Iterator[torch.Tensor]:
    """All tokens' rows, for reading (0) or for writing (1)."""
    last = len(vocabulary.place)
    for first in range(0, last, _ROWS):
        yield vocabulary.rows(first, min(first + _ROWS, last))[direction].bfloat16()


def _whole(name: str, tensor: torch.Tensor) -> PlannedTensor:
    return PlannedTensor(name, tensor.dtype, tuple(tensor.shape), lambda: iter((tensor,)))
