"""Paged varlen prefill attention against transformers' eager attention."""

from __future__ import annotations

import pytest
import torch

from gpt_oss_triton.kernels.gpu.decode_attention import decode_attention
from gpt_oss_triton.kernels.gpu.prefill_attention import prefill_attention
from tests.unit.kernels.gpu.paged_case import PagedCase, paged_case


def run(case: PagedCase) -> torch.Tensor:
    return prefill_attention(
        case.q, case.keys, case.values, case.starts, case.block_tables, case.lengths, case.sinks, **case.options
    )  # fmt: skip


def close(got: torch.Tensor, case: PagedCase, tolerance: float = 3e-6) -> None:
    torch.testing.assert_close(got.float(), case.expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("new", [1, 2, 15, 16, 17, 33, 100])
@pytest.mark.parametrize("cached", [0, 1, 64, 77])
def test_one_sequence_with_and_without_a_prefix(device: torch.device, cached: int, new: int) -> None:
    case = paged_case([(cached, new)], device=device)
    close(run(case), case)


@pytest.mark.parametrize("window", [1, 8, 64, 128])
def test_window_edges(device: torch.device, window: int) -> None:
    spans = [(0, window), (0, window + 1), (max(window - 3, 0), 5), (2 * window + 3, 20), (150, 1)]
    case = paged_case(spans, device=device, window=window)
    close(run(case), case)


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 1)] * 9,
        [(5, 3), (0, 40), (90, 1), (16, 16), (1, 31), (0, 2)],
        [(0, 32), (0, 64), (0, 32)],  # tiles end where sequences do
        [(0, 31), (0, 33), (7, 95), (0, 1)],
    ],
)
def test_many_sequences_share_a_launch(device: torch.device, spans: list[tuple[int, int]]) -> None:
    case = paged_case(spans, device=device)
    close(run(case), case)


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 1), (4, 4), (6, 2), (16, 2), (32, 1)])
def test_groups_of_heads(device: torch.device, heads: int, kv_heads: int) -> None:
    case = paged_case([(20, 9), (3, 40)], device=device, heads=heads, kv_heads=kv_heads)
    close(run(case), case)


@pytest.mark.parametrize("block_size", [1, 4, 256])
def test_block_sizes(device: torch.device, block_size: int) -> None:
    case = paged_case([(90, 10), (5, 30)], device=device, block_size=block_size, window=70)
    close(run(case), case)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_half_precision(device: torch.device, dtype: torch.dtype, tolerance: float) -> None:
    case = paged_case([(40, 30), (0, 3)], device=device, dtype=dtype, dim=64)
    got = run(case)
    assert got.dtype == dtype
    close(got, case, tolerance)


def test_single_tokens_equal_the_decode_kernel(device: torch.device) -> None:
    case = paged_case([(40, 1), (0, 1), (130, 1)], device=device, window=128)
    decoded = decode_attention(
        case.q, case.keys, case.values, case.block_tables, case.lengths, case.sinks, **case.options
    )
    torch.testing.assert_close(run(case), decoded, atol=3e-6, rtol=3e-6)
