"""Each operation of a decode step by itself: milliseconds, GB/s, and the fraction of what memory gives.

GB/s are those of the weights, keys and values as they are stored. The likeliest token shows more than memory gives
on a CPU: its kernel reads an 8-bit copy of the vocabulary first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from gpt_oss_triton.bench.machine_limit import Clock
from gpt_oss_triton.bench.model_work import chosen_experts
from gpt_oss_triton.bench.rows import Row
from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.cache_size import make_cache
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel.plan import expert_bytes
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import WeightLoader

CONTEXT = 1024  # tokens of each sequence
BLOCK = 16
LAYERS = Part(0, 2)  # one that slides and one that does not

Call = tuple[str, Callable[[], object], float]  # its name, what it computes, and the bytes that it must read


@torch.inference_mode()
def measure_operations(
    directory: Path, clock: Clock, dtype: torch.dtype, sequences: list[int], limit: float
) -> Iterator[Row]:
    """A row of figures for each operation and number of sequences. `limit`: bytes that memory gives in a second."""
    device = clock.device
    config = ModelConfig.from_checkpoint(directory)
    weights = WeightLoader(directory, config, dtype, device, LAYERS).load()
    model = Model(config, weights)
    for count in sequences:
        for name, compute, size in _calls(model, config, device, dtype, count):
            seconds = clock.seconds(compute)
            yield {
                "operation": name, "sequences": count, "ms": round(seconds * 1e3, 4),
                "gb_per_s": round(size / seconds / 1e9, 1), "of_limit": round(size / seconds / limit, 3),
            }  # fmt: skip


def _calls(
    model: Model, c: ModelConfig, device: torch.device, dtype: torch.dtype, count: int
) -> Iterator[Call]:
    """What a decode step of `count` sequences calls."""
    per_sequence = CONTEXT // BLOCK
    cache = make_cache(c, LAYERS, 2 * count * per_sequence, BLOCK, dtype, device)
    tables = [list(range(n * per_sequence, (n + 1) * per_sequence)) for n in range(2 * count)]
    segments = [Segment([n], CONTEXT - 1, tables[n], tables[count + n], sample=True) for n in range(count)]
    batch = BatchBuilder(BLOCK, device).build(segments)
    x, angles = model.embedding(batch.token_ids), model.layers.angles(batch.positions)
    item, key_bytes = dtype.itemsize, Part(0, 1).token_bytes(c, dtype.itemsize)
    queries, places = c.heads * c.head_dim, LAYERS.cache_places(c)
    for n, layer in enumerate(model.layers.members):
        qkv = layer.qkv(x)
        layout = batch.window_layout if layer.is_sliding else batch.layout
        attend = partial(layer.attention, qkv, angles, layout, cache[places[n]], None)
        seen = min(CONTEXT, c.sliding_window) if c.is_sliding[n] else CONTEXT
        yield f"attention over {seen} tokens", attend, count * seen * key_bytes
    yield "qkv", partial(layer.qkv, x), (queries + 2 * c.kv_heads * c.head_dim) * c.hidden * item
    yield "attention's output", partial(layer.out, attend()), queries * c.hidden * item
    experts = chosen_experts(c, count) * expert_bytes(c, dtype, device)
    yield "experts", lambda: layer.mixture.add_to(x.clone()), experts
    head = c.vocabulary * c.hidden * item
    yield "logits", partial(model.vocabulary.logits, x), head
    yield "likeliest token", partial(model.vocabulary.likeliest, x), head
