"""The operations for a CPU with AVX-512 and bfloat16 products: weights packed once, and kernels that read them.

The residual stream is float32; products take bfloat16 and sum in float32. A row's result does not depend on which
other rows share its batch, nor on how its prompt was cut into chunks.
"""

from __future__ import annotations

import ctypes

import torch

from gpt_oss_triton.kernels.cpu.library import AttentionShape, ExpertMatrix, Mixture, Screen, load, pointer
from gpt_oss_triton.kernels.layout import PagedLayout
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts
from gpt_oss_triton.kernels.mxfp4 import BLOCK, Mxfp4Matrix
from gpt_oss_triton.kernels.operations import HeadShape, Norm
from gpt_oss_triton.kernels.reference import TorchAttention

COLUMNS = 32  # of a packed tile
PAGE = 16  # cache slots that the attention kernel reads together
MAX_GROUP, MAX_HEAD_DIM, MAX_EXPERTS = 12, 256, 1024  # the kernels' fixed buffers
# Scales that leave each non-zero weight an ordinary bfloat16 number. Published checkpoints stay far inside.
MIN_SCALE, MAX_SCALE = 2, 252


def tiles_of(outputs: int) -> int:
    return -(-outputs // COLUMNS)


class CpuOperations:
    def embedding(self, weight: torch.Tensor) -> WideEmbedding:
        return WideEmbedding(weight)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None = None) -> PackedLinear:
        return PackedLinear(weight, bias, norm)

    def attention(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> PagedAttention:
        return PagedAttention(shape, sinks, window)

    def mixture(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> PackedMixture:
        return PackedMixture(router, router_bias, per_token, experts, norm)

    def vocabulary(self, weight: torch.Tensor, norm: Norm) -> ScreenedVocabulary:
        return ScreenedVocabulary(weight, norm)


class WideEmbedding:
    """float32 of bfloat16 rows. torch would do as well, but on its own threads, which then stay awake for a while and
    take the cores from those that compute the rest of the step."""

    def __init__(self, weight: torch.Tensor) -> None:
        self._weight = weight.contiguous()

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        hidden = self._weight.shape[1]
        out = torch.empty(len(token_ids), hidden)
        load().embed(
            torch.get_num_threads(), token_ids.data_ptr(), len(token_ids), self._weight.data_ptr(), hidden, out.data_ptr()
        )  # fmt: skip
        return out


class PackedLinear:
    """Tiles of 32 outputs, each read from front to back: `source/linear.hpp`."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, norm: Norm | None) -> None:
        self._outputs, self._inputs = weight.shape
        self.tiles = pack(weight.unsqueeze(0))
        self._bias = None if bias is None else bias.float()
        self._norm = None if norm is None else norm.weight.float()
        self._eps = 0.0 if norm is None else norm.eps
        self._run = load().linear_layer

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._into(x, torch.empty(len(x), self._outputs), add=False)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return self._into(x, residual, add=True)

    def _into(self, x: torch.Tensor, out: torch.Tensor, *, add: bool) -> torch.Tensor:
        self._run(
            torch.get_num_threads(), x.data_ptr(), len(x), self._inputs, pointer(self._norm), self._eps,
            self.tiles.data_ptr(), pointer(self._bias), self._outputs, out.data_ptr(), add,
        )  # fmt: skip
        return out


class PagedAttention:
    """Reads keys and values where they lie, in an order of its own: `source/attention.hpp`.

    Shapes that the kernel was not written for, and blocks that are not whole pages, go the reference's way.
    """

    def __init__(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> None:
        self._shape, self._window = shape, window or 0
        self._sinks = sinks.float().contiguous()
        self._reference = TorchAttention(shape, sinks, window)
        self._fits = shape.group <= MAX_GROUP and shape.head_dim % 16 == 0 and shape.head_dim <= MAX_HEAD_DIM
        self._run = load().attention_layer

    def __call__(
        self,
        qkv: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        layout: PagedLayout,
        cache: torch.Tensor,
        asked: torch.Tensor | None,
    ) -> torch.Tensor:
        if not self._fits or layout.block_size % PAGE:
            return self._reference(qkv.to(cache.dtype), angles, layout, cache, asked).float()
        s, (cosine, sine) = self._shape, angles
        rows = layout.all_rows if asked is None else asked.int()
        out = torch.empty(len(rows), s.heads * s.head_dim)
        shape = AttentionShape(s.heads, s.kv_heads, s.head_dim, layout.block_size)
        keys, values = cache
        self._run(
            torch.get_num_threads(), ctypes.byref(shape), qkv.data_ptr(), cosine.data_ptr(), sine.data_ptr(),
            layout.packed_spans.data_ptr(), layout.packed_blocks.data_ptr(), len(layout.spans), rows.data_ptr(),
            len(rows), self._window, self._sinks.data_ptr(), s.head_dim**-0.5, keys.data_ptr(), values.data_ptr(),
            out.data_ptr(),
        )  # fmt: skip
        return out


class PackedMixture:
    """Norm, router, experts and their sum in one call: `source/experts.hpp`. MXFP4 weights stay packed."""

    def __init__(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> None:
        count, hidden = router.shape
        if count > MAX_EXPERTS:
            raise ValueError(f"The CPU kernels route among {MAX_EXPERTS} experts at most, not {count}.")
        if isinstance(experts, Mxfp4Experts) and not (_in_range(experts.gate_up) and _in_range(experts.down)):
            experts = experts.expanded()
        intermediate = experts.gate_up_bias.shape[1] // 2
        self._tensors = {
            "norm": norm.weight.float(),
            "router": router.float(),
            "router_bias": router_bias.float(),
            "gate_up": _pack_matrix(experts.gate_up, interleaved=True),
            "gate_up_bias": _pack_bias(experts.gate_up_bias, interleaved=True),
            "down": _pack_matrix(experts.down),
            "down_bias": _pack_bias(experts.down_bias),
        }
        at = {name: tensor.data_ptr() for name, tensor in self._tensors.items()}
        mxfp4 = isinstance(experts, Mxfp4Experts)
        self._mixture = Mixture(
            hidden, intermediate, count, per_token, at["norm"], norm.eps, at["router"], at["router_bias"],
            ExpertMatrix(at["gate_up"], at["gate_up_bias"], hidden, tiles_of(2 * intermediate), mxfp4),
            ExpertMatrix(at["down"], at["down_bias"], intermediate, tiles_of(hidden), mxfp4),
            experts.alpha, experts.limit,
        )  # fmt: skip
        self._run = load().mixture_layer

    def add_to(self, residual: torch.Tensor) -> torch.Tensor:
        self._run(torch.get_num_threads(), ctypes.byref(self._mixture), residual.data_ptr(), len(residual))
        return residual


class ScreenedVocabulary:
    """All logits from packed weights, or only the largest, found by an 8-bit screen: `source/vocabulary.hpp`."""

    def __init__(self, weight: torch.Tensor, norm: Norm) -> None:
        self._outputs, self._inputs = weight.shape
        self._product = PackedLinear(weight, None, norm)
        self._norm, self._eps = norm.weight.float(), norm.eps
        columns = tiles_of(self._outputs) * COLUMNS
        self._tensors = [
            torch.empty(columns * self._inputs, dtype=torch.int8),
            torch.empty(columns, dtype=torch.int32),
            *(torch.empty(columns) for _ in range(3)),
        ]
        load().pack_screen(
            torch.get_num_threads(), weight.contiguous().data_ptr(), self._inputs, self._outputs,
            *(tensor.data_ptr() for tensor in self._tensors),
        )  # fmt: skip
        self._screen = Screen(*(tensor.data_ptr() for tensor in self._tensors))

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self._product(x)

    def likeliest(self, x: torch.Tensor) -> torch.Tensor:
        out = torch.empty(len(x), dtype=torch.int64)
        load().likeliest_tokens(
            torch.get_num_threads(), x.data_ptr(), len(x), self._inputs, self._norm.data_ptr(), self._eps,
            self._product.tiles.data_ptr(), ctypes.byref(self._screen), self._outputs, out.data_ptr(),
        )  # fmt: skip
        return out


def pack(weight: torch.Tensor, *, interleaved: bool = False) -> torch.Tensor:
    """bfloat16 [n, outputs, inputs] -> [n, tiles, inputs / 2, 32, 2]. `interleaved`: see `source/linear.hpp`."""
    count, outputs, inputs = weight.shape
    weight = weight.contiguous()
    tiles = torch.empty(count, tiles_of(outputs), inputs // 2, COLUMNS, 2, dtype=torch.bfloat16)
    for one, packed in zip(weight, tiles, strict=True):
        load().pack_bf16(
            torch.get_num_threads(), one.data_ptr(), inputs, outputs, interleaved, packed.data_ptr()
        )
    return tiles


def _pack_matrix(matrix: torch.Tensor | Mxfp4Matrix, *, interleaved: bool = False) -> torch.Tensor:
    if isinstance(matrix, torch.Tensor):
        return pack(matrix, interleaved=interleaved)
    blocks, scales = matrix.blocks.contiguous(), matrix.scales.contiguous()
    experts, outputs, per_row = scales.shape
    tile_bytes = per_row * COLUMNS * (BLOCK // 2 + 1)
    packed = torch.empty(experts, tiles_of(outputs), tile_bytes, dtype=torch.uint8)
    for codes, powers, out in zip(blocks, scales, packed, strict=True):
        load().pack_mxfp4(
            torch.get_num_threads(), codes.data_ptr(), powers.data_ptr(), per_row * BLOCK, outputs, interleaved,
            out.data_ptr(),
        )  # fmt: skip
    return packed


def _pack_bias(bias: torch.Tensor, *, interleaved: bool = False) -> torch.Tensor:
    """[experts, outputs] -> float32 [experts, tiles * 32], in the order of the tiles' columns."""
    experts, outputs = bias.shape
    padded = torch.zeros(experts, tiles_of(outputs) * COLUMNS)
    padded[:, :outputs] = bias
    if interleaved:
        padded = padded.view(experts, -1, COLUMNS // 2, 2).transpose(2, 3).reshape(experts, -1)
    return padded


def _in_range(matrix: Mxfp4Matrix) -> bool:
    return bool(((matrix.scales >= MIN_SCALE) & (matrix.scales <= MAX_SCALE)).all())
