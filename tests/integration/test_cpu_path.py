"""The CPU kernels inside the whole model and the whole engine, in bfloat16 with packed MXFP4 experts."""

from __future__ import annotations

import random

import pytest
import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.cache_size import make_cache
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.kernels.cpu import build, library
from gpt_oss_triton.kernels.cpu.operations import CpuOperations
from gpt_oss_triton.kernels.reference import TorchOperations
from tests import oracle
from tests.unit.engine.conftest import SETTINGS, Call

NEW_TOKENS = 24
BLOCK, SLOTS = 16, 1024
CPU = torch.device("cpu")


@pytest.fixture(scope="module", autouse=True)
def _kernels() -> None:
    try:
        library.load()
    except build.Unavailable as reason:
        pytest.skip(f"no CPU kernels here: {reason}")


@pytest.fixture(scope="module")
def prompts():
    rng = random.Random(3)
    return [[rng.randrange(199_998) for _ in range(rng.randrange(1, 200))] for _ in range(16)]


def answers(checkpoint, prompts, max_tokens=NEW_TOKENS, **settings):
    """Greedy answers to all prompts at once, and the engine's preemptions."""
    given = {**SETTINGS, "dtype": "bfloat16", "threads": 2, **settings}
    engine = NativeEngine.from_settings(EngineSettings(**given), checkpoint("mxfp4"))
    try:
        calls = [Call(engine, prompt, max_tokens=max_tokens) for prompt in prompts]
        for call in calls:
            call.end()
        return [call.tokens for call in calls], engine.load().preemptions
    finally:
        engine.close()


def test_company_chunks_and_threads_change_no_token(checkpoint, prompts):
    """In bfloat16, where other servers promise it in float32 at most."""
    want, _ = answers(checkpoint, prompts, max_sequences=1)
    assert answers(checkpoint, prompts, max_sequences=16)[0] == want
    assert answers(checkpoint, prompts, max_step_tokens=512, threads=1)[0] == want
    assert answers(checkpoint, prompts, prefix_cache=False, max_step_tokens=17)[0] == want


def test_a_preempted_sequence_goes_on_as_if_nothing_had_been(checkpoint, prompts):
    short = [prompt[:BLOCK] for prompt in prompts[:8]]
    want, _ = answers(checkpoint, short, max_tokens=5 * BLOCK)
    # Eight sequences that grow to six blocks each: some must give way.
    token_bytes = 4 * 2 * 2 * 16 * 2
    got, preemptions = answers(
        checkpoint, short, max_tokens=5 * BLOCK, kv_cache_gib=24 * BLOCK * token_bytes / 2**30
    )
    assert preemptions > 0
    assert got == want


@pytest.mark.parametrize("name", ["mxfp4", "bf16"])
def test_as_near_to_the_truth_as_plain_torch(checkpoint, name):
    """Against transformers in float32: the kernels keep more digits than bfloat16 torch, never fewer."""
    directory = checkpoint(name)
    config = ModelConfig.from_checkpoint(directory)
    weights = WeightLoader(directory, config, torch.bfloat16, CPU).load()
    rng = random.Random(4)
    token_ids = [rng.randrange(199_998) for _ in range(300)]
    errors = {}
    with torch.inference_mode():
        want = oracle.load(directory, torch.float32)(torch.tensor([token_ids])).logits[0, -1]
        for operations in (CpuOperations(), TorchOperations(torch.bfloat16)):
            model = Model(config, weights, operations)
            cache = make_cache(config, Part.whole(config), SLOTS // BLOCK, BLOCK, torch.bfloat16, CPU)
            blocks = list(range(SLOTS // BLOCK))
            batch = BatchBuilder(BLOCK, CPU).build(
                [Segment(token_ids, 0, blocks[:32], blocks[32:], sample=True)]
            )
            hidden = model.forward(batch, cache)
            logits = model.vocabulary.logits(hidden)[0].float()
            errors[type(operations)] = float((logits - want).abs().max() / want.std())
            assert model.vocabulary.likeliest(hidden).tolist() == [int(logits.argmax())]
    assert errors[CpuOperations] < 0.05
    assert errors[CpuOperations] <= errors[TorchOperations]


def test_an_engine_without_the_kernels_answers_all_the_same(checkpoint, prompts, monkeypatch, caplog):
    monkeypatch.setattr(library, "why_unavailable", lambda: "this test says so")
    got, _ = answers(checkpoint, prompts[:3])
    assert [len(tokens) for tokens in got] == [NEW_TOKENS] * 3
    assert "plain torch" in caplog.text
