"""Split-KV decode attention against transformers' eager attention."""

from __future__ import annotations

import pytest
import torch

from gpt_oss_triton.kernels.gpu.decode_attention import KEYS, MAX_SPLITS, choose_splits, decode_attention
from tests.unit.kernels.gpu.paged_case import PagedCase, paged_case


def run(case: PagedCase, splits: int | None = None) -> torch.Tensor:
    return decode_attention(
        case.q, case.keys, case.values, case.block_tables, case.lengths, case.sinks, **case.options, splits=splits
    )  # fmt: skip


def close(got: torch.Tensor, case: PagedCase, tolerance: float = 2e-6) -> None:
    torch.testing.assert_close(got.float(), case.expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("splits", [1, 2, 4])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 63, 64, 65, 200])
def test_one_sequence(device: torch.device, length: int, splits: int) -> None:
    case = paged_case([(length - 1, 1)], device=device)
    close(run(case, splits), case)


@pytest.mark.parametrize("splits", [1, 4])
@pytest.mark.parametrize("window", [1, 8, 64, 128])
def test_window_edges(device: torch.device, window: int, splits: int) -> None:
    lengths = sorted({1, window - 1, window, window + 1, window + 40} - {0})
    case = paged_case([(length - 1, 1) for length in lengths], device=device, window=window)
    close(run(case, splits), case)


def test_sequences_of_every_length_share_a_launch(device: torch.device) -> None:
    case = paged_case([(n, 1) for n in (0, 150, 3, 15, 16, 31, 64, 99)], device=device)
    close(run(case), case)


@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 1), (4, 4), (6, 2), (16, 2), (32, 1)])
def test_groups_of_heads(device: torch.device, heads: int, kv_heads: int) -> None:
    case = paged_case([(20, 1), (70, 1)], device=device, heads=heads, kv_heads=kv_heads)
    close(run(case, 2), case)


@pytest.mark.parametrize("block_size", [1, 4, 64, 256])
def test_block_sizes(device: torch.device, block_size: int) -> None:
    case = paged_case([(90, 1), (5, 1)], device=device, block_size=block_size, window=70)
    close(run(case, 2), case)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 1e-2), (torch.float16, 1e-3)])
def test_half_precision(device: torch.device, dtype: torch.dtype, tolerance: float) -> None:
    case = paged_case([(99, 1), (3, 1)], device=device, dtype=dtype, dim=64)
    got = run(case)
    assert got.dtype == dtype
    close(got, case, tolerance)


@pytest.mark.parametrize("splits", [1, 2])
def test_a_row_that_pads_a_graph_is_zero_and_reads_nothing(device: torch.device, splits: int) -> None:
    case = paged_case([(20, 1), (30, 1)], device=device)
    case.lengths[0] = 0
    case.block_tables[0] = 2**30
    got = run(case, splits)
    assert (got[0] == 0).all()
    torch.testing.assert_close(got[1], case.expected[1], atol=2e-6, rtol=2e-6)


def test_a_large_sink_takes_all_the_weight_and_a_small_one_none(device: torch.device) -> None:
    case = paged_case([(40, 1)], device=device)
    case.sinks.fill_(200.0)
    assert run(case, 2).abs().max() < 1e-30
    case.sinks.fill_(float("-inf"))
    without = [run(case, splits) for splits in (1, 4)]
    torch.testing.assert_close(without[0], without[1], atol=2e-6, rtol=2e-6)
    assert without[0].isfinite().all()


def test_caches_may_be_slices_of_a_larger_one(device: torch.device) -> None:
    case = paged_case([(40, 1), (17, 1)], device=device)
    whole = torch.stack((case.keys, case.values), dim=1)  # [slots, 2, kv_heads, head_dim]
    got = decode_attention(
        case.q, whole[:, 0], whole[:, 1], case.block_tables, case.lengths, case.sinks, **case.options
    )
    close(got, case)


@pytest.mark.parametrize(
    ("programs", "most_keys", "splits"),
    [
        (8, 4096, 64),  # one sequence on an H100: all of it is needed
        (8, 128, 2),  # its sliding layers have two tiles
        (64, 131_072, 8),
        (512, 131_072, 1),
        (4096, 131_072, 1),
        (1, 131_072, MAX_SPLITS),
        (1, KEYS, 1),
    ],
)
def test_splits_fill_the_gpu_and_no_more(programs: int, most_keys: int, splits: int) -> None:
    assert choose_splits(programs, most_keys, processors=132) == splits
