"""What a model must read and multiply, and what that takes on a machine whose rates are known."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gpt_oss_triton.bench import machine_limit
from gpt_oss_triton.bench.machine_limit import Clock, Machine
from gpt_oss_triton.bench.model_work import ModelWork, Work, chosen_experts
from gpt_oss_triton.checkpoint.shapes import SHAPES
from gpt_oss_triton.engine.model_config import ModelConfig

CPU = torch.device("cpu")
MACHINE = Machine("made up", bandwidth=1e9, products=1e12, cache_bytes=1_000_000)


@pytest.fixture
def config_20b(checkpoint):
    tiny = ModelConfig.from_checkpoint(checkpoint("mxfp4"))
    return dataclasses.replace(tiny, **dataclasses.asdict(SHAPES["20b"]), is_sliding=(True, False) * 12)


@pytest.fixture
def work_20b(config_20b) -> ModelWork:
    return ModelWork(config_20b, torch.bfloat16, CPU)


@pytest.mark.parametrize(("sequences", "gigabytes"), [(1, 3.74), (64, 14.4)])
def test_bytes_of_a_decode_step(work_20b, sequences, gigabytes):
    """By hand, for gpt-oss-20b at 1k context: 2.4 GB without experts, 4 of 32 experts for one sequence, nearly all
    for 64, and keys and values."""
    assert work_20b.decode(sequences, context=1024).bytes / 1e9 == pytest.approx(gigabytes, rel=0.03)


def test_chosen_experts(config_20b):
    assert chosen_experts(config_20b, 1) == pytest.approx(4)
    assert chosen_experts(config_20b, 1000) == pytest.approx(32)


def test_products_of_a_decode_step(work_20b):
    """Each active weight is multiplied once: 3.6 G of them in gpt-oss-20b, the embedding's 0.58 G excepted. Beside them
    64 heads look at 128 tokens in every other layer and at all in the rest, with keys and values of 64 numbers."""
    attention = 12 * (128 + 1024) * 2 * 64 * 64
    assert work_20b.decode(1, context=1024).products - attention == pytest.approx(
        3.61e9 - 0.58e9 + 0.55e9, rel=0.05
    )
    assert work_20b.decode(8, context=1024).products == 8 * work_20b.decode(1, context=1024).products


def test_a_context_costs_its_keys_and_values_in_the_layers_that_see_it(work_20b):
    """Of gpt-oss-20b: 12 full layers, 8 KV heads of 64 numbers, two bytes each."""
    more = work_20b.decode(3, context=3000).bytes - work_20b.decode(3, context=2000).bytes
    assert more == 3 * 1000 * 12 * 2 * 8 * 64 * 2


@pytest.mark.parametrize("tokens", [1, 5, 128, 300])
def test_a_prompt_is_the_sum_of_its_tokens(work_20b, tokens):
    """But for the last layer, where only keys and values of most tokens matter, and the vocabulary, which is for one
    token. The last layer is a full one; so is the attention that it saves."""
    c = work_20b.config
    alone = sum(work_20b.decode(1, context=n + 1).products for n in range(tokens))
    saved = (tokens - 1) * (c.vocabulary * c.hidden + layer(c) - 2 * c.kv_heads * c.head_dim * c.hidden)
    seen_in_the_last_layer = sum(range(1, tokens)) * 2 * c.heads * c.head_dim
    assert work_20b.prompt(tokens).products == pytest.approx(alone - saved - seen_in_the_last_layer, rel=1e-9)
    assert work_20b.prompt(tokens).bytes == pytest.approx(work_20b.decode(tokens, context=0).bytes)


def layer(c: ModelConfig) -> int:
    """Weights that a token is multiplied with in one layer."""
    experts = c.experts_per_token * (2 * c.intermediate * c.hidden + c.intermediate * c.hidden)
    return (c.heads + 2 * c.kv_heads + c.heads) * c.head_dim * c.hidden + c.experts * c.hidden + experts


def test_an_eight_bit_vocabulary_is_half_the_work(config_20b, work_20b):
    screened = ModelWork(config_20b, torch.bfloat16, CPU, screened=True)
    vocabulary = config_20b.vocabulary * config_20b.hidden
    assert work_20b.decode(2, 10).bytes - screened.decode(2, 10).bytes == vocabulary
    assert work_20b.decode(2, 10).products - screened.decode(2, 10).products == 2 * vocabulary / 2


def test_a_step_takes_the_longer_of_reading_and_multiplying():
    assert MACHINE.seconds(Work(bytes=3_000_000, products=0)) == pytest.approx(0.002)
    assert MACHINE.seconds(Work(bytes=3_000_000, products=1e10)) == pytest.approx(0.01)
    assert MACHINE.seconds(Work(bytes=1000, products=0)) == 0, "what the cache holds needs no reading"


def test_the_better_of_two_measurements():
    other = Machine("made up", bandwidth=2e9, products=5e11, cache_bytes=1_000_000)
    assert MACHINE.better_of(other) == Machine("made up", 2e9, 1e12, 1_000_000)


def test_a_machine_is_measured(monkeypatch):
    monkeypatch.setattr(machine_limit, "COLD_BYTES", 2**24)
    monkeypatch.setattr(machine_limit, "SIDE", 256)
    machine = Machine.measured(Clock(CPU), torch.float32)
    assert machine.bandwidth > 1e8
    assert machine.products > 1e8
