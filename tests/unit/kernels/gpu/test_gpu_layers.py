"""Norm, rotation and routing kernels against transformers' modules."""

from __future__ import annotations

import types

import pytest
import torch
from transformers.models.gpt_oss.modeling_gpt_oss import (
    GptOssRMSNorm,
    GptOssTopKRouter,
    _apply_rotary_emb,
)

from gpt_oss_triton.kernels.gpu.norm import rms_norm
from gpt_oss_triton.kernels.gpu.rope import rotate_and_store
from gpt_oss_triton.kernels.gpu.routing import route, sort_by_expert

# The interpreter cuts float32 to bfloat16 where a GPU rounds: one unit in the last place.
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("hidden", [1, 64, 96, 2880])
@torch.no_grad()
def test_rms_norm(device: torch.device, hidden: int, dtype: torch.dtype) -> None:
    residual = torch.randn(3, hidden, device=device).to(dtype)
    before = residual.clone()
    norm = GptOssRMSNorm(hidden, eps=1e-5).to(device)
    norm.weight.copy_(torch.randn(hidden).to(dtype))
    normed = rms_norm(residual, norm.weight.to(dtype), 1e-5)
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(normed.float(), norm(residual.float()), atol=tolerance, rtol=tolerance)
    assert normed.dtype == dtype
    assert torch.equal(residual, before)


@torch.no_grad()
def test_a_wide_residual_makes_a_narrow_norm(device: torch.device) -> None:
    """float16 models keep the residual in float32, whose range the sum over all layers needs."""
    residual = torch.full((2, 32), 120_000.0, device=device)
    normed = rms_norm(residual, torch.ones(32, device=device, dtype=torch.float16), 1e-5)
    torch.testing.assert_close(normed, torch.ones(2, 32, device=device, dtype=torch.float16))


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(8, 2, 16), (3, 1, 2), (16, 2, 64), (64, 8, 64), (6, 6, 8)]
)
def test_rotate_and_store(
    device: torch.device, heads: int, kv_heads: int, dim: int, dtype: torch.dtype
) -> None:
    tokens, slots = 3, 11
    qkv = torch.randn(tokens, (heads + 2 * kv_heads) * dim, device=device).to(dtype)
    angles = torch.randn(tokens, dim // 2, device=device) * 50
    cos, sin = (1.3 * angles.cos()).to(dtype), (1.3 * angles.sin()).to(dtype)
    keys = torch.full((slots, kv_heads, dim), 7.0, device=device, dtype=dtype)
    values = keys.clone()
    where = torch.tensor([9, -1, 0], device=device)
    q = rotate_and_store(qkv, cos, sin, keys, values, where, heads)

    by_head = qkv.view(tokens, -1, dim).float()
    old_q, old_k, old_v = by_head.split([heads, kv_heads, kv_heads], dim=1)
    rotation = (cos.float().unsqueeze(1), sin.float().unsqueeze(1))
    tolerance = 2 * TOLERANCE[dtype]
    torch.testing.assert_close(q.float(), _apply_rotary_emb(old_q, *rotation), atol=tolerance, rtol=tolerance)
    written = torch.tensor([9, 0], device=device)
    rotated = _apply_rotary_emb(old_k, *rotation)
    torch.testing.assert_close(keys[written].float(), rotated[[0, 2]], atol=tolerance, rtol=tolerance)
    assert torch.equal(values[written].float(), old_v[[0, 2]])
    others = [n for n in range(slots) if n not in (9, 0)]
    assert (keys[others] == 7).all()
    assert (values[others] == 7).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("experts", "top_k"), [(8, 4), (32, 4), (128, 4), (5, 3), (4, 4), (3, 1)])
@torch.no_grad()
def test_route(device: torch.device, experts: int, top_k: int, dtype: torch.dtype) -> None:
    config = types.SimpleNamespace(num_experts_per_tok=top_k, num_local_experts=experts, hidden_size=24)
    router = GptOssTopKRouter(config).to(device)
    router.weight.copy_(torch.randn(experts, 24))
    x = torch.randn(6, 24, device=device)
    logits = router(x)[0].to(dtype)
    want = torch.topk(logits.float(), top_k, dim=-1)
    chosen, shares = route(logits, top_k)
    if dtype == torch.float32:  # narrow logits have ties, whose order topk leaves open
        assert torch.equal(chosen.long(), want.indices)
    assert torch.equal(logits.float().gather(1, chosen.long()), want.values)
    torch.testing.assert_close(shares, want.values.softmax(-1), atol=1e-6, rtol=1e-6)


def test_of_equal_logits_the_lower_expert_comes_first(device: torch.device) -> None:
    chosen, shares = route(torch.zeros(1, 6, device=device), 4)
    assert chosen.tolist() == [[0, 1, 2, 3]]
    assert shares.tolist() == [[0.25] * 4]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("everywhere", [True, False])
def test_no_logits_lead_out_of_the_experts(device: torch.device, bad: float, everywhere: bool) -> None:
    logits = torch.randn(2, 5, device=device)
    logits[0, slice(None) if everywhere else 2] = bad
    chosen, shares = route(logits, 4)
    assert ((chosen >= 0) & (chosen < 5)).all()
    assert shares[0].isnan().all()
    assert shares[1].isfinite().all()


@pytest.mark.parametrize(("tokens", "experts"), [(1, 8), (5, 8), (40, 3), (700, 4), (3, 128)])
def test_sort_by_expert(device: torch.device, tokens: int, experts: int) -> None:
    chosen = torch.stack([torch.randperm(experts)[:3] for _ in range(tokens)]).int().to(device)
    pairs = sort_by_expert(chosen, experts)
    want = torch.sort(chosen.flatten(), stable=True).indices
    assert torch.equal(pairs.order.long(), want)
    counts = torch.bincount(chosen.flatten(), minlength=experts)
    assert pairs.starts.tolist() == [0, *counts.cumsum(0).tolist()]
