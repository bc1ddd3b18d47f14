"""A whole model by the GPU's operations gives transformers' logits, through prefill, chunks and decode."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.cache_size import make_cache
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.kernels.gpu.operations import GpuOperations
from tests import oracle
from tests.unit.kernels.gpu.paged_case import NOWHERE

BLOCK, BLOCKS = 8, 24
WINDOW = 24  # tokens; the checkpoint's own 128 would take the interpreter too long


@pytest.mark.slow
@torch.inference_mode()
def test_logits_equal_transformers(device: torch.device, checkpoint: Callable[[str], Path]) -> None:
    """Three sequences, one of them longer than the window: a step of prefills, a step that decodes one while
    another goes on prefilling behind its cached prefix, and a step of decodes alone. Sliding layers have blocks of
    their own, and those out of the window are nowhere."""
    directory = checkpoint("mxfp4")
    config = dataclasses.replace(ModelConfig.from_checkpoint(directory), sliding_window=WINDOW)
    weights = WeightLoader(directory, config, torch.float32, device).load()
    model = Model(config, weights, GpuOperations(torch.float32))
    builder = BatchBuilder(BLOCK, device)
    cache = make_cache(config, Part.whole(config), BLOCKS, BLOCK, torch.float32, device).fill_(float("nan"))
    rng = random.Random(0)
    a, b, c = ([rng.randrange(199_998) for _ in range(n)] for n in (WINDOW + 13, 9, 30))
    blocks = list(range(BLOCKS))
    rng.shuffle(blocks)
    own = {id(a): blocks[:5], id(b): blocks[5:7], id(c): blocks[7:11]}
    sliding = {id(a): blocks[11:16], id(b): blocks[16:18], id(c): blocks[18:22]}

    def segment(tokens: list[int], first: int, last: int) -> Segment:
        fallen_out = max(0, first - WINDOW + 1) // BLOCK
        window_blocks = [NOWHERE] * fallen_out + sliding[id(tokens)][fallen_out:]
        return Segment(tokens[first:last], first, own[id(tokens)], window_blocks, True)

    steps = [
        [segment(a, 0, len(a) - 2), segment(b, 0, 7), segment(c, 0, 21)],
        [segment(a, len(a) - 2, len(a) - 1), segment(b, 7, 8), segment(c, 21, 29)],
        [segment(a, len(a) - 1, len(a)), segment(c, 29, 30)],
    ]
    theirs = oracle.load(directory).to(device)
    theirs.config.sliding_window = WINDOW
    want = {own[id(s)][0]: theirs(torch.tensor([s], device=device)).logits[0] for s in (a, b, c)}
    for step in steps:
        got = model.vocabulary.logits(model.forward(builder.build(step), cache))
        expected = [want[s.blocks[0]][s.start + len(s.token_ids) - 1] for s in step]
        torch.testing.assert_close(got, torch.stack(expected), atol=2e-4, rtol=2e-4)
