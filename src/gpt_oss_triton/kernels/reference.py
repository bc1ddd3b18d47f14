"""The operations in plain torch, for every device and dtype: what the fast versions are held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gpt_oss_triton.kernels.attention import attend
from gpt_oss_triton.kernels.layers import rms_norm, rotate
from gpt_oss_triton.kernels.layout import Group, PagedLayout
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts, mixture
from gpt_oss_triton.kernels.operations import HeadShape, Norm


class TorchOperations:
    def __init__(self, dtype: torch.dtype) -> None:
        # The sum over all layers may leave float16's range; what each layer adds does not.
        self.residual_dtype = torch.float32 if dtype == torch.float16 else dtype

    def embedding(self, weight: torch.Tensor) -> TorchEmbedding:
        return TorchEmbedding(weight, self.residual_dtype)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None = None) -> TorchLinear:
        return TorchLinear(weight, bias, norm)

    def attention(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> TorchAttention:
        return TorchAttention(shape, sinks, window)

    def mixture(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> TorchMixture:
        return TorchMixture(router, router_bias, per_token, experts, norm)

    def vocabulary(self, weight: torch.Tensor, norm: Norm) -> TorchVocabulary:
        return TorchVocabulary(weight, norm)


class TorchEmbedding:
    def __init__(self, weight: torch.Tensor, residual_dtype: torch.dtype) -> None:
        self._weight, self._residual_dtype = weight, residual_dtype

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(token_ids, self._weight).to(self._residual_dtype)


class TorchLinear:
    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None) -> None:
        self._weight, self._bias, self._norm = weight, bias, norm

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._norm is not None:
            x = rms_norm(x, self._norm.weight, self._norm.eps)
        return F.linear(x, self._weight, self._bias)

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return residual + self(x)


class TorchAttention:
    """Gathers each group's keys and values from the cache. A slot holds [kv_heads, head_dim]."""

    def __init__(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> None:
        self._shape, self._window = shape, window
        # [1, kv_heads, heads per KV head, 1]: one row of a decode; prefill repeats it for each query.
        self._sinks = sinks.float().view(1, shape.kv_heads, shape.group, 1)

    def __call__(
        self,
        qkv: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        layout: PagedLayout,
        cache: torch.Tensor,
        asked: torch.Tensor | None,
    ) -> torch.Tensor:
        s = self._shape
        heads = qkv.view(len(qkv), -1, s.head_dim)
        q, k, v = torch.split(heads, [s.heads, s.kv_heads, s.kv_heads], dim=1)
        cos, sin = (angle.to(q.dtype).unsqueeze(1) for angle in angles)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        keys, values = cache
        keys[layout.slots] = k
        values[layout.slots] = v
        out = torch.empty_like(q)
        for group in layout.groups(self._window, s.group, q.dtype):
            out[group.first : group.last] = self._attend(q[group.first : group.last], group, keys, values)
        return (out if asked is None else out[asked]).flatten(1)

    def _attend(
        self, q: torch.Tensor, group: Group, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """One group's queries [rows, heads, head_dim] over the slots it sees; same shape back."""
        s, view = self._shape, group.keys
        packed = q.view(group.batch, group.queries, s.kv_heads, s.group, s.head_dim).transpose(1, 2)
        packed = packed.reshape(group.batch, s.kv_heads, group.queries * s.group, s.head_dim)
        gathered = (group.batch, -1, s.kv_heads, s.head_dim)
        k = keys.index_select(0, view.slots).view(gathered).transpose(1, 2)
        v = values.index_select(0, view.slots).view(gathered).transpose(1, 2)
        sinks = self._sinks.repeat(1, 1, group.queries, 1)
        out = attend(packed, k, v, view.mask, sinks, s.head_dim**-0.5)
        out = out.view(group.batch, s.kv_heads, group.queries, s.group, s.head_dim).transpose(1, 2)
        return out.reshape(q.shape)


class TorchMixture:
    def __init__(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> None:
        self._router, self._router_bias, self._per_token, self._norm = router, router_bias, per_token, norm
        self._experts = experts.expanded() if isinstance(experts, Mxfp4Experts) else experts

    def __call__(self, residual: torch.Tensor) -> torch.Tensor:
        x = rms_norm(residual, self._norm.weight, self._norm.eps)
        best = F.linear(x, self._router, self._router_bias).topk(self._per_token, dim=-1)
        return mixture(x, best.indices, best.values.softmax(dim=-1), self._experts)

    def add_to(self, residual: torch.Tensor) -> torch.Tensor:
        return residual + self(residual) if len(residual) else residual


class TorchVocabulary:
    def __init__(self, weight: torch.Tensor, norm: Norm) -> None:
        self._weight, self._norm = weight, norm

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(rms_norm(x, self._norm.weight, self._norm.eps), self._weight)

    def likeliest(self, x: torch.Tensor) -> torch.Tensor:
        best = self.logits(x).max(dim=-1)
        # The largest of a row is NaN when any of it is, and infinite when the computation overflowed.
        return torch.where(torch.isfinite(best.values), best.indices, -1)
