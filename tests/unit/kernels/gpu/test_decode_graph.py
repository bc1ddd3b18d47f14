"""Padded decode steps give what unpadded ones do. A recorded step is here one that is computed again: recording
itself needs a GPU."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt_oss_triton.checkpoint import build_checkpoint
from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.cache_size import make_cache
from gpt_oss_triton.engine.decode_graph import DecodeGraphs, cuda_recorder, graph_sizes
from gpt_oss_triton.engine.executor import LocalExecutor
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.kernels.gpu.operations import GpuOperations
from tests.unit.kernels.gpu.paged_case import NOWHERE

BLOCK, BLOCKS, WINDOW = 16, 12, 4
# As small as it gets: the interpreter takes its time.
SHAPE = Shape(
    hidden=32, layers=2, experts=4, heads=4, kv_heads=2, head_dim=16, intermediate=32, experts_per_token=2
)


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (64, [1, 2, 4, 8, 16, 32, 64])]
)
def test_sizes(most: int, sizes: list[int]) -> None:
    assert graph_sizes(most) == sizes


def test_only_steps_of_decodes_fit() -> None:
    decode = Segment([1], 3, [0], [1], sample=True)
    assert DecodeGraphs.fit([decode, decode])
    assert not DecodeGraphs.fit([decode, Segment([1, 2], 0, [1], [2], sample=True)])
    assert not DecodeGraphs.fit([decode, Segment([1], 7, [1], [2], sample=False)])  # the end of a cut prompt


@pytest.mark.slow
@torch.inference_mode()
def test_replayed_steps_equal_computed_ones(device: torch.device, tmp_path: Path) -> None:
    """Sequences grow into new blocks, change rows and leave. What no sequence has written is NaN in the cache, so
    that padding which reads or writes would show. Blocks out of the window are nowhere."""
    build_checkpoint(SHAPE, "mxfp4", 0, tmp_path / "model")
    config = replace(ModelConfig.from_checkpoint(tmp_path / "model"), sliding_window=WINDOW)
    weights = WeightLoader(tmp_path / "model", config, torch.float32, device).load()
    model = Model(config, weights, GpuOperations(torch.float32))
    builder = BatchBuilder(BLOCK, device)
    caches = [
        make_cache(config, Part.whole(config), BLOCKS, BLOCK, torch.float32, device).fill_(float("nan"))
        for _ in range(2)
    ]
    assert len(caches[0]) == 1, "a sliding layer and a full one share a place"
    recorded = []

    def again(compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        recorded.append(compute().shape[0])
        return compute

    graphs = DecodeGraphs(
        model, caches[1], block_size=BLOCK, most_sequences=4, most_blocks=4,
        record=cuda_recorder(torch.cuda.Stream()) if device.type == "cuda" else again,
    )  # fmt: skip
    assert recorded in ([4, 2, 1], [])
    assert bool(caches[1].isnan().all()), "recording wrote into the cache"
    plain, padded = LocalExecutor(model, caches[0], builder), LocalExecutor(model, caches[1], builder, graphs)
    rng = random.Random(0)
    blocks = list(range(BLOCKS))
    rng.shuffle(blocks)
    tables = {"a": blocks[:2], "b": blocks[2:4], "c": blocks[4:6]}
    window_tables = {"a": blocks[6:8], "b": blocks[8:10], "c": [NOWHERE, blocks[10]]}
    lengths = {"a": 15, "b": 3, "c": 20}  # `a` goes over to its second block
    for name, length in lengths.items():
        for table in (tables[name], window_tables[name]):
            for slot in [b * BLOCK + n for b in table for n in range(BLOCK)][:length]:
                if slot < BLOCKS * BLOCK:
                    values = torch.randn(config.kv_heads, config.head_dim)
                    caches[0][:, :, slot] = caches[1][:, :, slot] = values
    for names in ("abc", "ca", "b"):
        step = [
            Segment([rng.randrange(199_998)], lengths[name], tables[name], window_tables[name], sample=True)
            for name in names
        ]
        want = plain.forward(step)
        sampled = torch.tensor([s.token_ids[0] for s in reversed(step)], device=device)  # by the step before
        carried = [
            replace(segment, token_ids=[0], carried=len(step) - 1 - n) for n, segment in enumerate(step)
        ]
        torch.testing.assert_close(padded.forward(carried, sampled), want)
        for name in names:
            lengths[name] += 1
    slots = [caches[n].isnan().flatten(3).any(3).nonzero().tolist() for n in range(2)]
    assert slots[0] == slots[1], "padding wrote keys or values"
