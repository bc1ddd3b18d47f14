"""Both forms of the packed experts against transformers' experts over the unpacked weights."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable

import pytest
import torch
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssExperts

from gpt_oss_triton.kernels.gpu import moe
from gpt_oss_triton.kernels.gpu.moe_gemm import Tiling, choose_tiling, gemm_mixture
from gpt_oss_triton.kernels.gpu.moe_gemv import gemv_mixture
from gpt_oss_triton.kernels.gpu.routing import route
from gpt_oss_triton.kernels.moe import Mxfp4Experts
from gpt_oss_triton.kernels.mxfp4 import Mxfp4Matrix, dequantize

Form = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Mxfp4Experts], torch.Tensor]


def gemv(x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor, weights: Mxfp4Experts) -> torch.Tensor:
    residual = torch.zeros_like(x)
    gemv_mixture(residual, x, experts, shares, weights)
    return residual


def gemm(
    x: torch.Tensor,
    experts: torch.Tensor,
    shares: torch.Tensor,
    weights: Mxfp4Experts,
    tiling: Tiling | None = None,
) -> torch.Tensor:
    residual = torch.zeros_like(x)
    gemm_mixture(residual, x, experts, shares, weights, tiling)
    return residual


FORMS = [gemv, gemm]


def packed(
    device: torch.device, experts: int, hidden: int, inner: int, dtype: torch.dtype = torch.float32
) -> Mxfp4Experts:
    """Every code, and scales from 2^-12 to 2^-4: inner values on both sides of the activation's limit."""

    def matrix(rows: int, columns: int) -> Mxfp4Matrix:
        blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), dtype=torch.uint8)
        scales = torch.randint(115, 124, (experts, rows, columns // 32), dtype=torch.uint8)
        return Mxfp4Matrix(blocks.to(device), scales.to(device))

    return Mxfp4Experts(
        matrix(2 * inner, hidden), torch.randn(experts, 2 * inner, device=device).to(dtype),
        matrix(hidden, inner), torch.randn(experts, hidden, device=device).to(dtype),
        alpha=1.702, limit=7.0,
    )  # fmt: skip


@torch.no_grad()
def expected(
    x: torch.Tensor, chosen: torch.Tensor, shares: torch.Tensor, weights: Mxfp4Experts
) -> torch.Tensor:
    """transformers' experts, in float32."""
    gate_up = dequantize(weights.gate_up.blocks, weights.gate_up.scales, torch.float32)
    down = dequantize(weights.down.blocks, weights.down.scales, torch.float32)
    config = types.SimpleNamespace(
        intermediate_size=down.shape[2], num_local_experts=weights.down.blocks.shape[0], hidden_size=down.shape[1],
        swiglu_alpha=weights.alpha, swiglu_limit=weights.limit, _experts_implementation="eager",
    )  # fmt: skip
    experts = GptOssExperts(config).to(x.device)
    experts.gate_up_proj.copy_(gate_up.transpose(1, 2))
    experts.gate_up_proj_bias.copy_(weights.gate_up_bias)
    experts.down_proj.copy_(down.transpose(1, 2))
    experts.down_proj_bias.copy_(weights.down_bias)
    result: torch.Tensor = experts(x.float(), chosen.long(), shares)
    return result


def routed(device: torch.device, tokens: int, experts: int, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = torch.stack([torch.randperm(experts)[:top_k] for _ in range(tokens)]).int()
    return chosen.to(device), torch.rand(tokens, top_k, device=device).softmax(-1)


def close(got: torch.Tensor, want: torch.Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest: single values may be what is left of larger ones."""
    torch.testing.assert_close(got.float(), want, atol=tolerance * want.abs().max().item(), rtol=0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("tokens", "experts", "top_k", "hidden", "inner"),
    [
        (1, 4, 4, 32, 32),
        (1, 8, 4, 64, 96),
        (3, 5, 2, 96, 64),
        (2, 128, 3, 32, 32),  # nearly all experts are left without a token
        (2, 4, 1, 160, 224),
    ],
)
def test_equals_transformers(
    device: torch.device, form: Form, tokens: int, experts: int, top_k: int, hidden: int, inner: int
) -> None:
    weights = packed(device, experts, hidden, inner)
    x = torch.randn(tokens, hidden, device=device)
    chosen, shares = routed(device, tokens, experts, top_k)
    close(form(x, chosen, shares, weights), expected(x, chosen, shares, weights), 2e-6)


# Two roundings; the interpreter cuts to bfloat16 where a GPU rounds.
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-6), (torch.float16, 2**-9)])
def test_half_precision(device: torch.device, form: Form, dtype: torch.dtype, tolerance: float) -> None:
    weights = packed(device, 4, 64, 64, dtype)
    x = torch.randn(2, 64, device=device).to(dtype)
    chosen, shares = routed(device, 2, 4, 2)
    got = form(x, chosen, shares, weights)
    assert got.dtype == dtype
    close(got, expected(x, chosen, shares, weights), tolerance)


@pytest.mark.parametrize("tokens", [15, 16, 17, 40])
def test_all_tokens_choose_the_same_experts(device: torch.device, tokens: int) -> None:
    weights = packed(device, 6, 32, 64)
    x = torch.randn(tokens, 32, device=device)
    chosen = torch.tensor([[5, 0]], dtype=torch.int32, device=device).repeat(tokens, 1)
    shares = torch.rand(tokens, 2, device=device)
    close(gemm(x, chosen, shares, weights), expected(x, chosen, shares, weights), 2e-6)


@pytest.mark.parametrize(
    "tiling",
    [
        Tiling(16, 64, 128, 4, 3),
        Tiling(32, 128, 64, 4, 3),
        Tiling(128, 128, 64, 8, 3),
        Tiling(16, 32, 32, 4, 2),
    ],
)
def test_tile_sizes_change_nothing(device: torch.device, tiling: Tiling) -> None:
    weights = packed(device, 3, 96, 96)
    x = torch.randn(33, 96, device=device)
    chosen, shares = routed(device, 33, 3, 2)
    close(gemm(x, chosen, shares, weights, tiling), expected(x, chosen, shares, weights), 2e-6)


# What unpacking lacks is made good partly in the scales, which leaves those of 2^-125 to 2^99 to the one form and
# those of 2^-63 to 2^64 to the other.
@pytest.mark.parametrize(("form", "lowest", "highest"), [(gemv, 2, 226), (gemm, 64, 191)])
def test_every_code_at_every_scale_is_exact(
    device: torch.device, form: Form, lowest: int, highest: int
) -> None:
    """Row r of `down` holds all bytes at the r-th scale; one inner value is 1 and the others 0, so that the
    output is a column of weights, bit for bit."""
    inner = hidden = 256
    codes = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)[:, :, :8]  # 0 to 127: all low nibbles
    down = codes.expand(1, hidden, 8, 16).contiguous()
    scales = (
        torch.arange(hidden).clamp(lowest, highest).to(torch.uint8).view(1, hidden, 1).expand(1, hidden, 8)
    )
    # A gate of 100 is cut to the limit and its sigmoid is 1 to the last bit; up + 1 is 0 or 1.
    limit = 64.0
    for one in (1, 34, 255):
        bias = torch.tensor([100.0, -1.0]).repeat(inner)
        bias[2 * one + 1] = 1 / limit - 1
        nothing = torch.zeros(1, 2 * inner, hidden // 32, 17, dtype=torch.uint8, device=device)
        weights = Mxfp4Experts(
            Mxfp4Matrix(nothing[..., :16].contiguous(), nothing[..., 16] + 127), bias.unsqueeze(0).to(device),
            Mxfp4Matrix(down.to(device), scales.contiguous().to(device)), torch.zeros(1, hidden, device=device),
            alpha=1.702, limit=limit,
        )  # fmt: skip
        chosen = torch.zeros(1, 1, dtype=torch.int32, device=device)
        got = form(torch.zeros(1, hidden, device=device), chosen, torch.ones(1, 1, device=device), weights)
        assert torch.equal(
            got[0], dequantize(weights.down.blocks, weights.down.scales, torch.float32)[0, :, one]
        )


@pytest.mark.parametrize("form", FORMS)
def test_a_nan_stays_with_its_token(device: torch.device, form: Form) -> None:
    weights = packed(device, 4, 32, 32)
    x = torch.randn(3, 32, device=device)
    chosen, shares = routed(device, 3, 4, 2)
    want = expected(x, chosen, shares, weights)
    x[1, 5] = float("nan")
    got = form(x, chosen, shares, weights)
    assert got[1].isnan().all()
    close(got[[0, 2]], want[[0, 2]], 2e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_scale_of_255_is_nan(device: torch.device, form: Form) -> None:
    weights = packed(device, 2, 32, 32)
    weights.down.scales[0, 7] = 255
    chosen = torch.zeros(1, 1, dtype=torch.int32, device=device)
    got = form(torch.randn(1, 32, device=device), chosen, torch.ones(1, 1, device=device), weights)
    assert got[0].isnan().nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tokens", [moe.GEMV_TOKENS, moe.GEMV_TOKENS + 1])
def test_the_mixture_is_added_to_the_residual(device: torch.device, tokens: int, dtype: torch.dtype) -> None:
    """On both sides of where one form takes over from the other."""
    weights = packed(device, 4, 32, 32)
    x = torch.randn(tokens, 32, device=device)
    chosen, shares = routed(device, tokens, 4, 2)
    residual = torch.randn(tokens, 32, device=device).to(dtype)
    want = residual.float() + expected(x, chosen, shares, weights)
    moe.add_mixture(residual, x, chosen, shares, weights)
    close(residual, want, 2e-6 if dtype == torch.float32 else 2**-7)


def test_a_tokens_result_does_not_depend_on_its_batch(device: torch.device) -> None:
    weights = packed(device, 4, 64, 64)
    x = torch.randn(9, 64, device=device)
    chosen, shares = routed(device, 9, 4, 2)
    tiling = choose_tiling(18, 4)
    whole = gemm(x, chosen, shares, weights, tiling)
    alone = gemm(x[4:5], chosen[4:5], shares[4:5], weights, tiling)
    torch.testing.assert_close(alone[0], whole[4], rtol=1e-6, atol=1e-6 * whole.abs().max().item())


@pytest.mark.parametrize("form", FORMS)
def test_shares_of_the_experts_add_up(device: torch.device, form: Form) -> None:
    """Each share is told which of a token's experts are elsewhere, and adds nothing for those."""
    weights = packed(device, 6, 64, 32)
    x = torch.randn(5, 64, device=device)
    logits = torch.randn(5, 6, device=device)
    whole, shares = route(logits, 3)
    want = expected(x, whole, shares, weights)
    got = torch.zeros_like(want)
    for first, last in ((0, 2), (2, 6)):
        chosen, same = route(logits, 3, first, last - first)
        assert torch.equal(same, shares)
        assert torch.equal(chosen, torch.where((whole >= first) & (whole < last), whole - first, -1))
        got += form(x, chosen, shares, held(weights, first, last))
    close(got, want, 2e-6)


def held(weights: Mxfp4Experts, first: int, last: int) -> Mxfp4Experts:
    """The experts [first, last) of them."""

    def cut(matrix: Mxfp4Matrix) -> Mxfp4Matrix:
        return Mxfp4Matrix(matrix.blocks[first:last].contiguous(), matrix.scales[first:last].contiguous())

    return dataclasses.replace(
        weights, gate_up=cut(weights.gate_up), gate_up_bias=weights.gate_up_bias[first:last],
        down=cut(weights.down), down_bias=weights.down_bias[first:last], first=first,
    )  # fmt: skip
