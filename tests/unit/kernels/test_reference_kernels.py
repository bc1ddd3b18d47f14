"""The torch references agree with each other and with their definitions."""

import math

import pytest
import torch

from gpt_oss_triton.kernels import attention
from gpt_oss_triton.kernels.attention import attend_from_lse, attend_in_slices, attend_reference
from gpt_oss_triton.kernels.layers import clamped_swiglu, rms_norm, rotate
from gpt_oss_triton.kernels.moe import ExpertWeights, _looped, _padded, mixture


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch", "queries", "keys"), [(1, 1, 1), (5, 4, 33), (1, 24, 40)])
def test_sinks_from_the_log_sum_exp_equal_the_definition(dtype, batch, queries, keys):
    torch.manual_seed(0)
    heads, dim = 2, 16
    q = torch.randn(batch, heads, queries, dim, dtype=dtype)
    k, v = (torch.randn(batch, heads, keys, dim, dtype=dtype) for _ in range(2))
    hidden = torch.rand(batch, 1, queries, keys) < 0.4
    hidden[..., 0] = False
    mask = torch.zeros(hidden.shape, dtype=dtype).masked_fill(hidden, -math.inf)
    sinks = torch.randn(1, heads, queries, 1) * 3
    got = attend_from_lse(q, k, v, mask, sinks, dim**-0.5)
    want = attend_reference(q, k, v, mask, sinks, dim**-0.5)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


def test_a_sink_takes_weight_and_gives_nothing():
    q = k = torch.zeros(1, 1, 1, 4)
    v = torch.ones(1, 1, 1, 4)
    mask, sink = torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    torch.testing.assert_close(attend_reference(q, k, v, mask, sink, 1.0), torch.full((1, 1, 1, 4), 0.5))


def test_slices_of_queries_change_nothing(monkeypatch):
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 2, 12, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    mask, sinks = torch.randn(2, 1, 12, 9), torch.randn(1, 2, 12, 1)
    whole = attend_reference(q, k, v, mask, sinks, 0.3)
    monkeypatch.setattr(attention, "MAX_LOGITS", 5 * 2 * 2 * 9)
    torch.testing.assert_close(attend_in_slices(q, k, v, mask, sinks, 0.3), whole)


def experts(count, hidden, inner):
    torch.manual_seed(1)
    return ExpertWeights(
        gate_up=torch.randn(count, 2 * inner, hidden),
        gate_up_bias=torch.randn(count, 2 * inner),
        down=torch.randn(count, hidden, inner),
        down_bias=torch.randn(count, hidden),
        alpha=1.702,
        limit=7.0,
    )


@pytest.mark.parametrize("tokens", [1, 3, 40])
def test_mixture_equals_one_token_at_a_time(tokens):
    w = experts(6, 8, 4)
    x = torch.randn(tokens, 8)
    chosen = torch.stack([torch.randperm(6)[:2] for _ in range(tokens)])
    shares = torch.rand(tokens, 2)
    want = torch.zeros_like(x)
    for t in range(tokens):
        for place in range(2):
            e = chosen[t, place]
            inner = clamped_swiglu(x[t] @ w.gate_up[e].T + w.gate_up_bias[e], w.alpha, w.limit)
            want[t] += shares[t, place] * (inner @ w.down[e].T + w.down_bias[e])
    torch.testing.assert_close(mixture(x, chosen, shares, w), want, atol=1e-3, rtol=1e-4)


def test_both_forms_of_the_mixture_agree():
    w = experts(4, 8, 4)
    counts = torch.tensor([3, 0, 5, 1])
    expert = torch.repeat_interleave(torch.arange(4), counts)
    rows = torch.randn(9, 8)
    torch.testing.assert_close(
        _padded(rows, expert, counts, 5, w), _looped(rows, counts, w), atol=1e-4, rtol=1e-4
    )


def test_swiglu_clamps_gate_above_and_up_on_both_sides():
    x = torch.tensor([100.0, 100.0, -100.0, -100.0])
    got = clamped_swiglu(x, alpha=1.702, limit=7.0)
    torch.testing.assert_close(got[0], torch.tensor(8.0 * 7.0), atol=1e-3, rtol=0)
    assert abs(got[1]) < 1e-6, "a very negative gate closes"


def test_rotation_keeps_length_and_depends_on_distance_only():
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    frequency = torch.tensor([1.0, 0.3, 0.1, 0.01])

    def at(x, position):
        angle = (position * frequency).view(1, 1, -1)
        return rotate(x, angle.cos(), angle.sin())

    torch.testing.assert_close(at(q, 5).norm(), q.norm())
    torch.testing.assert_close(
        (at(q, 9) * at(k, 4)).sum(), (at(q, 105) * at(k, 100)).sum(), atol=1e-4, rtol=1e-4
    )


def test_rms_norm_is_computed_in_float32():
    x = torch.full((1, 4), 300.0, dtype=torch.float16)
    torch.testing.assert_close(
        rms_norm(x, torch.ones(4, dtype=torch.float16), 1e-5), torch.ones(1, 4, dtype=torch.float16)
    )
