"""The operations a gpt-oss layer is made of, and the choice between their versions.

Each is made once from a layer's weights, which it may keep in any order it likes, and is then called every step.
`reference.py` computes them in plain torch on any device; `cpu/` has the fast versions for a CPU.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import torch

from gpt_oss_triton.kernels.layout import PagedLayout
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Norm:
    """RMS norm that comes before an operation."""

    weight: torch.Tensor  # [hidden]
    eps: float


@dataclass(frozen=True, slots=True)
class HeadShape:
    heads: int
    kv_heads: int
    head_dim: int

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads


class Embedding(Protocol):
    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        """The residual stream [tokens, hidden] that int64 `token_ids` [tokens] begin with."""
        ...


class Linear(Protocol):
    """norm(x) · Wᵀ + b of the residual stream or of anything else [rows, in]."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """`residual` [rows, out] and the product; the argument may be reused for the result."""
        ...


class Attention(Protocol):
    def __call__(
        self,
        qkv: torch.Tensor,
        angles: tuple[torch.Tensor, torch.Tensor],
        layout: PagedLayout,
        cache: torch.Tensor,
        asked: torch.Tensor | None,
    ) -> torch.Tensor:
        """Rotate, write keys and values, attend.

        Args:
            qkv: [tokens, (heads + 2 kv_heads) * head_dim], query, key and value heads.
            angles: cosine and sine, float32 [tokens, head_dim / 2].
            layout: where the tokens stand.
            cache: [2, slots, kv_heads, head_dim], keys then values. In what order a block's values lie in it is
                the operation's own affair.
            asked: int64, the rows whose attention is wanted; None: all.

        Returns:
            [asked, heads * head_dim].
        """
        ...


class Mixture(Protocol):
    def add_to(self, residual: torch.Tensor) -> torch.Tensor:
        """`residual` [tokens, hidden] and what the experts make of its norm; the argument may be reused."""
        ...


class Vocabulary(Protocol):
    """The last norm and the product with every token's vector. `x` [rows, hidden]."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """float [rows, vocabulary]."""
        ...

    def likeliest(self, x: torch.Tensor) -> list[int | None]:
        """The token with the largest logit of each row, None for a row that holds no numbers."""
        ...


class Operations(Protocol):
    """Makes the operations of one model on one device."""

    def embedding(self, weight: torch.Tensor) -> Embedding: ...

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None = None) -> Linear: ...

    def attention(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> Attention: ...

    def mixture(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> Mixture: ...

    def vocabulary(self, weight: torch.Tensor, norm: Norm) -> Vocabulary: ...


def operations_for(device: torch.device, dtype: torch.dtype) -> Operations:
    """The fastest versions that this machine has for models of `dtype`."""
    from gpt_oss_triton.kernels import reference

    if device.type == "cpu" and dtype == torch.bfloat16:
        from gpt_oss_triton.kernels.cpu import library
        from gpt_oss_triton.kernels.cpu.operations import CpuOperations

        reason = library.why_unavailable()
        if reason is None:
            return CpuOperations()
        log.warning(
            "computing with plain torch, which is several times slower: no CPU kernels, as %s", reason
        )
    return reference.TorchOperations(dtype)
