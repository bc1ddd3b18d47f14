"""The scheduler starves nobody, loses no block and never exceeds its budget."""

import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_triton.engine.kv_cache import BlockPool
from gpt_oss_triton.engine.protocol import EngineRequest
from gpt_oss_triton.engine.sampler import RowSampling
from gpt_oss_triton.engine.scheduler import Scheduler
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.wire import GenerationOptions

CPU = torch.device("cpu")


def sequence(name, prompt, *, limit=4, block_size=2):
    request = EngineRequest(name, prompt, GenerationOptions(temperature=0))
    return Sequence(
        request,
        lambda event: None,
        limit=limit,
        eos_token_ids=frozenset(),
        sampling=RowSampling(request.options, prompt, 100, CPU),
        block_size=block_size,
    )


def scheduler(blocks=16, block_size=2, **options):
    return Scheduler(BlockPool(blocks, block_size), **{"max_sequences": 4, "max_step_tokens": 8, **options})


def run_step(s, chunks, token=1):
    s.commit(chunks)
    for chunk in chunks:
        if chunk.sequence.uncomputed == 0:
            chunk.sequence.append(token)
            if chunk.sequence.finish_reason:
                s.remove(chunk.sequence)
    s.pool.check()


def shape(chunks):
    return [(chunk.sequence.request.request_id, chunk.tokens) for chunk in chunks]


def test_a_long_prompt_is_cut_to_the_budget_and_decodes_go_first():
    s = scheduler(blocks=32)
    s.add(sequence("long", list(range(20))))
    chunks = s.schedule()
    assert shape(chunks) == [("long", 8)]
    run_step(s, chunks)
    s.add(sequence("short", [50]))
    chunks = s.schedule()
    assert shape(chunks) == [("long", 8)], "the budget is spent on who came first"
    run_step(s, chunks)
    chunks = s.schedule()
    assert shape(chunks) == [("short", 1), ("long", 4)]
    assert [chunk.samples for chunk in chunks] == [True, True]
    run_step(s, chunks)
    assert shape(s.schedule()) == [("long", 1), ("short", 1)]


def test_a_shared_prefix_is_computed_once():
    s = scheduler()
    s.add(sequence("a", [1, 2, 3, 4, 5], limit=1))
    run_step(s, s.schedule())
    b = sequence("b", [1, 2, 3, 4, 9])
    s.add(b)
    assert shape(s.schedule()) == [("b", 1)]
    assert b.cached_tokens == 4


def test_a_fully_cached_prompt_still_computes_its_last_token():
    s = scheduler()
    s.add(sequence("a", [1, 2, 3, 4], limit=1))
    run_step(s, s.schedule())
    b = sequence("b", [1, 2, 3, 4])
    s.add(b)
    assert shape(s.schedule()) == [("b", 2)]
    assert b.cached_tokens == 2


def test_the_last_admitted_gives_way_and_comes_back_first():
    s = scheduler(blocks=4, block_size=2)
    a, b = sequence("a", [1, 2, 3], limit=5), sequence("b", [7], limit=3)
    s.add(a)
    s.add(b)
    run_step(s, s.schedule())
    run_step(s, s.schedule())
    while not b.preemptions:
        chunks = s.schedule()
        assert chunks
        run_step(s, chunks)
    assert s.waiting[0] is b
    assert b.blocks == []
    while s.running or s.waiting:
        run_step(s, s.schedule())
    assert (a.output_tokens, b.output_tokens) == (5, 3)
    assert s.pool.used == 0


def test_removal_frees_blocks_in_the_queue_and_in_the_batch():
    s = scheduler()
    a, b = sequence("a", [1, 2, 3]), sequence("b", [4])
    s.add(a)
    s.schedule()
    s.add(b)
    s.remove(b)
    s.remove(a)
    assert not s.running
    assert not s.waiting
    assert s.pool.used == 0


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_random_traffic_finishes_within_budget(seed):
    rng = random.Random(seed)
    size = rng.choice([1, 2, 4])
    blocks, budget, most = rng.randrange(6, 20), rng.randrange(1, 12), rng.randrange(1, 6)
    s = scheduler(blocks=blocks, block_size=size, max_sequences=most, max_step_tokens=budget)
    capacity = blocks * size
    pending = []
    for n in range(rng.randrange(1, 14)):
        length = rng.randrange(1, capacity)
        prompt = [rng.randrange(2) for _ in range(length)]
        pending.append(
            sequence(str(n), prompt, limit=rng.randrange(1, capacity - length + 1), block_size=size)
        )
    everyone = list(pending)
    for _ in range(5000):
        while pending and rng.random() < 0.3:
            s.add(pending.pop())
        if not (pending or s.running or s.waiting):
            break
        chunks = s.schedule()
        assert bool(chunks) == bool(s.running), "work is left but nothing is scheduled"
        assert sum(chunk.tokens for chunk in chunks) <= max(budget, most)
        assert len(s.running) <= most
        assert [c.tokens > 1 for c in chunks] == sorted(c.tokens > 1 for c in chunks)
        for chunk in chunks:
            held = len(chunk.sequence.blocks) * size
            assert held >= chunk.sequence.computed + chunk.tokens
        run_step(s, chunks, token=rng.randrange(2))
        if s.running and rng.random() < 0.02:
            victim = rng.choice(s.running)
            victim.finish_reason = "cancelled"
            s.remove(victim)
    assert all(one.finish_reason for one in everyone)
    assert s.pool.used == 0
