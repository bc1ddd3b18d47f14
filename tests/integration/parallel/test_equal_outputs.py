"""An engine that spreads over processes answers as one that does not."""

from __future__ import annotations

import random

import pytest
import torch

from gpt_oss_triton.engine.batch import Segment
from gpt_oss_triton.engine.protocol import NewTokens
from tests.integration.parallel.conftest import MODES
from tests.unit.engine.conftest import Call

BLOCK, WINDOW = 16, 128
LAYER_BYTES = 2 * 2 * 16 * 4  # of a token's keys and values in one of the tiny model's layers, in float32


@pytest.fixture(scope="module")
def prompts():
    """Around block and window borders, longer than the pieces of a pipeline, and with shared prefixes."""
    rng = random.Random(0)
    made = [[rng.randrange(199_998) for _ in range(n)] for n in (1, 16, 17, 129, 260, 700)]
    return [*made, made[-1][:320], [*made[-2][:256], 5, 6, 7]]


def block_bytes(mode):
    """Two layers of either kind share two places in the cache. Stages of one, one and two layers have three."""
    return {"pipeline": 3}.get(mode["gpu_mode"], 2) * BLOCK * LAYER_BYTES


def answers(engine, prompts, **options):
    calls = [Call(engine, prompt, **{"max_tokens": 16, **options}) for prompt in prompts]
    for call in calls:
        call.end()
    return [call.tokens for call in calls]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["gpu_mode"])
def test_greedy_and_sampled_tokens(started, prompts, mode):
    """In float32: sampled ones with everything that needs all logits."""
    single, spread = started(), started(**mode, max_step_tokens=512)
    assert answers(spread, prompts) == answers(single, prompts)
    drawn = {
        "temperature": 0.8,
        "seed": 5,
        "top_k": 50,
        "top_p": 0.9,
        "frequency_penalty": 0.5,
        "logit_bias": {7: 3.0},
    }
    assert answers(spread, prompts, **drawn) == answers(single, prompts, **drawn)
    load = spread.load()
    ranks = mode["parallel_ranks"]
    assert load.gpu_mode == mode["gpu_mode"]
    assert (load.tensor_parallel, load.pipeline_parallel) == ((ranks, 1) if ranks == 2 else (1, ranks))
    assert load.block_bytes == block_bytes(mode)
    assert single.load().block_bytes == block_bytes({"gpu_mode": "single"})


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["gpu_mode"])
@torch.inference_mode()
def test_logits(started, mode):
    """Two sequences, one of them in pieces and then continued, within 1e-4 of the logits' spread. When it is, the
    blocks of its sliding layers that are out of the window are the other's."""
    rng = random.Random(1)
    long, short = ([rng.randrange(199_998) for _ in range(n)] for n in (500, 40))
    blocks = list(range(80))
    rng.shuffle(blocks)
    own, sliding, others, others_sliding = blocks[:34], blocks[34:68], blocks[68:74], blocks[74:]
    left = [others_sliding[0]] * ((450 - WINDOW + 1) // BLOCK)
    steps = [
        [
            Segment(short, 0, others, others_sliding, sample=True),
            Segment(long[:450], 0, own, sliding, sample=False),
        ],
        [
            Segment([7], 40, others, others_sliding, sample=True),
            Segment(long[450:], 450, own, [*left, *sliding[len(left) :]], sample=True),
        ],
    ]
    found = []
    for settings in ({}, mode):
        executor = started(**settings)._runner._executor
        found.append([executor.vocabulary.logits(executor.forward(step)).clone() for step in steps])
    for want, got in zip(*found, strict=True):
        assert got.shape == want.shape
        assert float((got - want).abs().max() / want.std()) < 1e-4


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["gpu_mode"])
def test_prefix_hits_preemption_and_cancel(started, prompts, mode):
    """A cache too small for all at once: some give way, one is cancelled, and a prefix is found again."""
    want = answers(started(), prompts[:5], max_tokens=5 * BLOCK)
    spread = started(**mode, kv_cache_gib=72 * block_bytes(mode) / 2**30)
    gone = Call(spread, [3] * 20, max_tokens=500)
    gone.until(NewTokens)
    calls = [Call(spread, prompt, max_tokens=5 * BLOCK) for prompt in prompts[:5]]
    spread.cancel(gone.id)
    assert gone.end().finish_reason == "cancelled"
    for call in calls:
        call.end()
    assert [call.tokens for call in calls] == want
    assert spread.load().preemptions > 0
    again = Call(spread, prompts[4], max_tokens=5 * BLOCK)
    assert again.end().cached_tokens > 0
    assert again.tokens == want[4]
    load = spread.load()
    assert (load.running, load.waiting, load.blocks_used) == (0, 0, 0)


@pytest.mark.parametrize(
    ("weights", "dtype", "mode"),
    [
        ("mxfp4", "float32", MODES[0]),  # packed experts, shared out
        ("mxfp4", "bfloat16", MODES[1]),  # the CPU kernels, where the machine has them
    ],
)
def test_packed_experts(started, prompts, weights, dtype, mode):
    single, spread = started(weights, dtype=dtype), started(weights, dtype=dtype, **mode)
    assert answers(spread, prompts[:5]) == answers(single, prompts[:5])
