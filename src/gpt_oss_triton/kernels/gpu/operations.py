"""The operations of a layer by the kernels of this package; matrix products of unpacked weights are cuBLAS's."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gpt_oss_triton.kernels.gpu.decode_attention import decode_attention
from gpt_oss_triton.kernels.gpu.moe import add_mixture
from gpt_oss_triton.kernels.gpu.norm import rms_norm
from gpt_oss_triton.kernels.gpu.prefill_attention import prefill_attention
from gpt_oss_triton.kernels.gpu.rope import rotate_and_store
from gpt_oss_triton.kernels.gpu.routing import route
from gpt_oss_triton.kernels.gpu.tables import Tables
from gpt_oss_triton.kernels.layout import PagedLayout
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts
from gpt_oss_triton.kernels.operations import HeadShape, Norm
from gpt_oss_triton.kernels.reference import TorchEmbedding, TorchMixture, TorchVocabulary


class GpuOperations:
    def __init__(self, dtype: torch.dtype) -> None:
        # The sum over all layers may leave float16's range; what each layer adds does not.
        self.residual_dtype = torch.float32 if dtype == torch.float16 else dtype

    def embedding(self, weight: torch.Tensor) -> TorchEmbedding:
        return TorchEmbedding(weight, self.residual_dtype)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None = None) -> GpuLinear:
        return GpuLinear(weight, bias, norm)

    def attention(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> GpuAttention:
        return GpuAttention(shape, sinks, window)

    def mixture(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> GpuMixture | TorchMixture:
        if isinstance(
            experts, ExpertWeights
        ):  # unpacked ones are for comparison: no published model has them
            return TorchMixture(router, router_bias, per_token, experts, norm)
        return GpuMixture(router, router_bias, per_token, experts, norm)

    def vocabulary(self, weight: torch.Tensor, norm: Norm) -> TorchVocabulary:
        return TorchVocabulary(weight, norm)


class GpuLinear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None) -> None:
        self._weight, self._bias, self._norm = weight, bias, norm

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._norm is not None:
            x = rms_norm(x, self._norm.weight, self._norm.eps)
        return F.linear(x, self._weight, self._bias)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return residual.add_(self(x))


class GpuAttention:
    """A cache slot holds [kv_heads, head_dim]."""

    def __init__(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> None:
        self._shape, self._window = shape, window
        self._sinks = sinks.float().contiguous()

    def __call__(
        self,
        qkv: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        layout: PagedLayout,
        cache: torch.Tensor,
        asked: torch.Tensor | None,
    ) -> torch.Tensor:
        shape, tables = self._shape, Tables.of(layout, qkv.device)
        keys, values = cache
        q = rotate_and_store(qkv, *angles, keys, values, tables.slots, shape.heads)
        split, scale = tables.decodes, shape.head_dim**-0.5
        parts = []
        if split:
            decoded = decode_attention(
                q[:split], keys, values, tables.blocks[:split], tables.lengths[:split], self._sinks,
                block_size=layout.block_size, window=self._window, scale=scale,
            )  # fmt: skip
            parts.append(decoded)
        if split < len(tables.lengths):
            prefilled = prefill_attention(
                q[split:], keys, values, tables.starts, tables.blocks[split:], tables.lengths[split:], self._sinks,
                block_size=layout.block_size, window=self._window, scale=scale,
            )  # fmt: skip
            parts.append(prefilled)
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return (out if asked is None else out[asked]).flatten(1)


class GpuMixture:
    def __init__(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: Mxfp4Experts,
        norm: Norm,
    ) -> None:
        self._router, self._router_bias, self._per_token = router, router_bias, per_token
        self._experts, self._norm = experts, norm

    def __call__(self, residual: torch.Tensor) -> torch.Tensor:
        return self._add(torch.zeros_like(residual), residual)

    def add_to(self, residual: torch.Tensor) -> torch.Tensor:
        return self._add(residual, residual) if len(residual) else residual

    def _add(self, to: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """`to` may be the residual itself."""
        x = rms_norm(residual, self._norm.weight, self._norm.eps)
        logits = F.linear(x, self._router, self._router_bias)
        chosen, shares = route(logits, self._per_token, self._experts.first, len(self._experts.gate_up_bias))
        add_mixture(to, x, chosen, shares, self._experts)
        return to
