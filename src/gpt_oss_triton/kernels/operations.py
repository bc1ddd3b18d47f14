"""The operations a gpt-oss layer is made of, and the choice between their versions.

Each is made once from a layer's weights, which it may keep in any order it likes, and is then called every step.
`reference.py` computes them in plain torch on any device; `cpu/` and `gpu/` have the fast versions.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

import torch

from gpt_oss_triton.kernels.layout import PagedLayout
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts

log = logging.getLogger(__name__)

GPU_CAPABILITY = (8, 0)  # the first with bfloat16 products


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


class PartialMixture(Mixture, Protocol):
    """One that can hold some of the experts only."""

    def __call__(self, residual: torch.Tensor) -> torch.Tensor:
        """What its experts add to `residual` [tokens, hidden], which stays as it is."""
        ...


class Vocabulary(Protocol):
    """The last norm and the product with every token's vector. `x` [rows, hidden]."""

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """float [rows, vocabulary]."""
        ...

    def likeliest(self, x: torch.Tensor) -> torch.Tensor:
        """The token with the largest logit of each row, -1 for a row that holds no numbers: int64 [rows]."""
        ...


class Operations(Protocol):
    """Makes the operations of one model on one device."""

    def embedding(self, weight: torch.Tensor) -> Embedding: ...

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None = None) -> Linear:
        """`norm`: of the product that goes into attention; the one that comes out of it has none."""
        ...

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


class PartialOperations(Operations, Protocol):
    """Can be made from shares of a layer's weights, whose results are then summed.

    Attributes:
        residual_dtype: of the residual stream.
    """

    residual_dtype: torch.dtype

    def mixture(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> PartialMixture: ...


def operations_for(device: torch.device, dtype: torch.dtype) -> Operations:
    """The fastest versions that this machine has for models of `dtype`."""
    if device.type == "cpu" and dtype == torch.bfloat16:
        from gpt_oss_triton.kernels.cpu import library
        from gpt_oss_triton.kernels.cpu.operations import CpuOperations

        reason = library.why_unavailable()
        if reason is None:
            return CpuOperations()
        log.warning(
            "computing with plain torch, which is several times slower: no CPU kernels, as %s", reason
        )
    return partial_operations_for(device, dtype)


def partial_operations_for(device: torch.device, dtype: torch.dtype) -> PartialOperations:
    """The fastest versions for shares of a model."""
    if device.type == "cuda":
        reason = why_no_gpu_kernels(device)
        if reason is None:
            from gpt_oss_triton.kernels.gpu.operations import GpuOperations

            return GpuOperations(dtype)
        log.warning("computing with plain torch, with unpacked experts: no GPU kernels, as %s", reason)
    from gpt_oss_triton.kernels.reference import TorchOperations

    return TorchOperations(dtype)


def why_no_gpu_kernels(device: torch.device) -> str | None:
    """Why the GPU kernels cannot be used on this CUDA device, None when they can."""
    capability = torch.cuda.get_device_capability(device)
    if capability < GPU_CAPABILITY:
        return f"{device} has compute capability {capability[0]}.{capability[1]}; they need 8.0"
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if (reason := _why_triton_cannot()) is not None:
        return f"Triton's compiler does not start ({reason})"
    return None


def _why_triton_cannot() -> str | None:
    """Its link to the driver is built with the machine's own C compiler when it is first needed: better now than with the
    weights in place."""
    from triton.runtime import driver

    try:
        driver.active.get_current_target()
    except Exception as error:  # whatever the compiler, the linker or the driver has to say
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None
