"""The scheduler starves nobody, loses no block and never exceeds its budget."""

import collections
import random

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt_oss_triton.engine.kv_cache import BlockPool
from gpt_oss_triton.engine.leases import Leases
from gpt_oss_triton.engine.prompt_pace import LEAST, PromptPace
from gpt_oss_triton.engine.protocol import EngineRequest
from gpt_oss_triton.engine.sampler import RowSampling
from gpt_oss_triton.engine.scheduler import Scheduler
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.wire import GenerationOptions, Lease

CPU = torch.device("cpu")


def sequence(name, prompt, *, limit=4, block_size=2, session=None, salt=""):
    lease = None if session is None else Lease(session, idle_s=60)
    options = GenerationOptions(temperature=0, lease=lease, cache_salt=salt)
    request = EngineRequest(name, prompt, options)
    return Sequence(
        request,
        lambda event: None,
        limit=limit,
        eos_token_ids=frozenset(),
        sampling=RowSampling(request.options, prompt, 100, CPU),
        block_size=block_size,
    )


def scheduler(blocks=16, block_size=2, watermark=0.7, **options):
    """`blocks`: of each kind, for contexts that the window holds."""
    pool = BlockPool(2 * blocks, block_size)
    options = {"window": 1000, "max_sequences": 4, "max_step_tokens": 8, "pace": PromptPace(0), **options}
    return Scheduler(pool, Leases(pool, watermark), **options)


def run_all(s):
    while s.running or s.waiting:
        run_step(s, s.schedule())


def run_step(s, chunks, token=1):
    s.commit(chunks, 0.01)
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


def test_who_shares_what_is_being_computed_waits_for_it_and_others_do_not():
    s = scheduler(blocks=64, max_step_tokens=8)
    prefix = list(range(20))
    a, b = sequence("a", [*prefix, 90]), sequence("b", [*prefix, 91])
    s.add(a)
    s.add(b)
    s.add(sequence("other", [50, 51]))
    assert shape(s.schedule()) == [("a", 8)]
    run_step(s, s.schedule())
    assert s.waiting[0] is b
    run_step(s, s.schedule())
    chunks = s.schedule()
    assert shape(chunks) == [("a", 5), ("other", 2)]
    run_step(s, chunks)
    assert shape(s.schedule()) == [("a", 1), ("other", 1), ("b", 1)]
    assert b.cached_tokens == 20
    assert b.found_tokens == 20


def test_copies_of_a_prompt_compute_it_once():
    s = scheduler(blocks=64, max_sequences=8, max_step_tokens=16)
    copies = [sequence(str(n), list(range(30)), limit=2) for n in range(8)]
    for copy in copies:
        s.add(copy)
    computed = 0
    while s.running or s.waiting:
        chunks = s.schedule()
        computed += sum(chunk.prompt_tokens for chunk in chunks)
        run_step(s, chunks)
    assert [copy.cached_tokens for copy in copies] == [0] + [28] * 7
    assert computed == 30 + 7 * 2


def test_nobody_waits_for_another_salt_or_without_a_prefix_cache():
    for salts, keep in ((("x", "y"), True), (("", ""), False)):
        pool = BlockPool(64, 2, keep_prefixes=keep)
        s = Scheduler(
            pool, Leases(pool, 0.5), window=8, max_sequences=4, max_step_tokens=64, pace=PromptPace(0)
        )
        for salt in salts:
            s.add(sequence(f"of {salt}", list(range(20)), salt=salt))
        assert len(s.schedule()) == 2


def test_who_waited_goes_on_alone_when_the_other_is_gone():
    s = scheduler(blocks=64)
    a, b, c = (sequence(name, list(range(20))) for name in "abc")
    for one in (a, b, c):
        s.add(one)
    run_step(s, s.schedule())
    assert s.running == [a]
    s.remove(a)
    run_step(s, s.schedule())
    assert s.running == [b], "it found what the other had computed, and computes the rest"
    assert b.cached_tokens == 8
    run_all(s)
    assert c.cached_tokens == 18


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
    run_all(s)
    assert (a.output_tokens, b.output_tokens) == (5, 3)
    assert s.pool.used == 0


def test_prefixes_are_shared_among_equal_salts_only():
    s = scheduler()
    cached = {}
    for name, salt in (("a", "one"), ("b", "one"), ("c", "other"), ("d", "")):
        asked = sequence(name, [1, 2, 3, 4, 5], limit=1, salt=salt)
        s.add(asked)
        run_all(s)
        cached[name] = asked.cached_tokens
    assert cached == {"a": 0, "b": 4, "c": 0, "d": 0}


def test_a_finished_sequence_leaves_its_computed_blocks_to_its_session():
    s = scheduler(blocks=10)
    turn = sequence("turn", [1, 2, 3, 4, 5], limit=4, session="s")
    s.add(turn)
    run_all(s)
    # Nine tokens, of which eight are computed: four blocks of two, of either kind.
    assert (len(s.leases), s.pool.kept) == (1, 8)
    other = sequence("other", [50] * 11, limit=1)
    s.add(other)
    run_all(s)
    assert s.leases.ended["pressure"] == 0
    again = sequence("again", [*turn.token_ids, 6], limit=1, session="s")
    s.add(again)
    run_all(s)
    assert again.cached_tokens == 8
    assert s.leases.ended["replaced"] == 1


def test_a_cancelled_or_failed_turn_leaves_its_session_what_it_had():
    s = scheduler()
    s.add(sequence("first", [1, 2, 3, 4], limit=1, session="s"))
    run_all(s)
    for reason in ("cancelled", None):
        turn = sequence("second", [1, 2, 3, 4, 1, 7, 8], limit=4, session="s")
        s.add(turn)
        run_step(s, s.schedule())
        turn.finish_reason = reason
        s.remove(turn)
    assert (len(s.leases), s.pool.kept, sum(s.leases.ended.values())) == (1, 4, 0)


def test_leases_give_way_to_running_sequences_before_anyone_is_preempted():
    s = scheduler(blocks=8, watermark=1.0)
    for n in range(3):
        s.add(sequence(f"turn {n}", [n, n, n, n], limit=1, session=f"s{n}"))
        run_all(s)
    assert s.pool.kept == 12
    grown = sequence("grown", [9], limit=9)
    s.add(grown)
    run_all(s)
    assert (grown.output_tokens, s.preemptions) == (9, 0)
    assert s.leases.ended["pressure"] == 2, "the least recently used, and no more than it takes"
    assert s.pool.match(sequence("", [2, 2, 2, 2]).names), "the last one is still there"


def test_admission_counts_leased_blocks_as_left():
    s = scheduler(blocks=8, watermark=1.0)
    s.add(sequence("turn", [1] * 14, limit=1, session="s"))
    run_all(s)
    assert s.pool.kept == 14
    s.add(sequence("large", [2] * 14, limit=1))
    assert shape(s.schedule()) == [("large", 8)]
    assert s.leases.ended["pressure"] == 1


def test_spoilt_blocks_end_the_leases_that_claim_them():
    s = scheduler()
    s.add(sequence("turn", [1, 2, 3, 4], limit=1, session="s"))
    run_all(s)
    bad = sequence("bad", [1, 2, 3, 4, 5])
    s.add(bad)
    chunks = s.schedule()
    s.disown(bad)
    s.remove(bad)
    assert chunks
    assert (len(s.leases), s.leases.ended["failed"], s.pool.cached) == (0, 1, 0)
    s.pool.check()


def test_the_step_is_tuned_between_the_running_sequences_and_the_configured():
    s = scheduler(max_sequences=4, max_step_tokens=8)
    seen = []
    for wanted in (6, 1, 100, None):
        s.tune(wanted)
        seen.append(s.max_step_tokens)
    assert seen == [6, 4, 8, 8]
    s.tune(5)
    s.add(sequence("long", list(range(20))))
    assert shape(s.schedule()) == [("long", 5)]


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


class Cache:
    """What the model would have written, and what it would say: both functions of all tokens up to a position."""

    def __init__(self, block_size, window):
        self.block_size = block_size
        self.window = window
        self.written = {}  # slot -> the kind of layers, and the tokens up to its own

    def slot(self, table, position):
        return table[position // self.block_size] * self.block_size + position % self.block_size

    def run(self, chunk, carried=()):
        sequence, tokens = chunk.sequence, [*chunk.sequence.token_ids, *carried, *chunk.draft]
        end = chunk.start + chunk.tokens
        seen_from = {"full": 0, "sliding": max(0, chunk.start - self.window + 1)}
        for kind, table in (("full", sequence.blocks), ("sliding", sequence.window_blocks)):
            for position in range(chunk.start, end):
                self.written[self.slot(table, position)] = kind, tuple(tokens[: position + 1])
            for position in range(seen_from[kind], end):
                assert self.written[self.slot(table, position)] == (kind, tuple(tokens[: position + 1])), (
                    "it reads what is not there"
                )

    @staticmethod
    def next_token(tokens):
        return random.Random(str(tokens)).randrange(2)


def sample(chunk):
    """What a step takes of a chunk's draft, and the token after it."""
    sequence = chunk.sequence
    for guess in (*chunk.draft, None):
        token = Cache.next_token(sequence.token_ids)
        sequence.append(token)
        if token != guess or sequence.finish_reason:
            break


def answer_alone(one):
    tokens = list(one.request.prompt_token_ids)
    for _ in range(one.limit):
        tokens.append(Cache.next_token(tokens))
    return tokens


def check_holdings(s):
    held = [[*one.blocks, *one.held_window_blocks] for one in s.running]
    assert all(one.blocks_held == len(set(own)) for one, own in zip(s.running, held, strict=True))
    assert s.pool.used == len({block for own in held for block in own})


def cancel_one(s, rng, live):
    victim = rng.choice(live)
    if victim.finish_reason is None and (victim in s.running or victim in s.waiting):
        victim.finish_reason = "cancelled"
        s.remove(victim)


class Steps:
    """Launches steps and lands them, at once or one behind the other."""

    def __init__(self, scheduler, cache, overlap):
        self.scheduler, self.cache, self.overlap = scheduler, cache, overlap
        self.flying = None
        self.unknown = collections.defaultdict(list)  # tokens that are sampled and not told

    def advance(self, chunks, rng, between):
        """`between`: called while the step is under way."""
        for chunk in chunks:
            unknown = self.unknown[id(chunk.sequence)]
            self.cache.run(chunk, unknown)
            if chunk.samples and self.overlap:
                unknown.append(Cache.next_token([*chunk.sequence.token_ids, *unknown]))
        self.scheduler.launched(chunks)
        before, self.flying = self.flying, chunks
        between()
        if before is not None:
            self.land(before, rng)
        if not self.overlap:
            self.finish(rng)

    def finish(self, rng):
        flying, self.flying = self.flying, None
        if flying is not None:
            self.land(flying, rng)

    def land(self, chunks, rng):
        s = self.scheduler
        s.landed(chunks)
        live = [chunk for chunk in chunks if chunk.sequence.finish_reason is None]
        for chunk in live:
            if chunk.samples and self.overlap:
                chunk.sequence.append(self.unknown[id(chunk.sequence)].pop(0))
            elif chunk.samples:
                sample(chunk)
        s.commit(live, rng.random())
        for chunk in live:
            one = chunk.sequence
            assert one.uncomputed > 0
            if one.finish_reason:
                if not self.overlap:
                    assert one.blocks_held == s.tables.shape.held(len(one.token_ids) - 1)
                s.remove(one)


@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_random_traffic_finishes_within_budget_and_as_it_would_alone(seed):
    rng = random.Random(seed)
    size = rng.choice([1, 2, 4])
    blocks, budget, most = rng.randrange(6, 20), rng.randrange(1, 12), rng.randrange(1, 6)
    window = rng.choice([1, 2, 3, 5, 8, 16, 100])
    overlap = rng.random() < 0.5
    s = scheduler(
        blocks, size, watermark=rng.random(), window=window, max_sequences=most, max_step_tokens=budget,
        speculates=not overlap and rng.random() < 0.5, pace=PromptPace(rng.choice([0, 2])),
    )  # fmt: skip
    steps = Steps(s, Cache(size, window), overlap)
    capacity = s.tables.shape.most_tokens(s.pool.total)
    trunk = [rng.randrange(2) for _ in range(capacity)]  # whose beginnings most prompts share
    pending = []
    for n in range(rng.randrange(1, 14)):
        length, common = rng.randrange(1, capacity), rng.randrange(capacity)
        prompt = [*trunk[:common], *(rng.randrange(2) for _ in range(capacity))][:length]
        limit, session = rng.randrange(1, capacity - length + 1), rng.choice([None, "a", "b", "c"])
        pending.append(sequence(str(n), prompt, limit=limit, block_size=size, session=session))
    everyone = list(pending)

    def perhaps_cancel():
        if rng.random() < 0.03:
            cancel_one(s, rng, everyone)

    for _ in range(5000):
        while pending and rng.random() < 0.3:
            s.add(pending.pop())
        if not (pending or s.running or s.waiting):
            break
        chunks = s.schedule(flying=steps.flying is not None)
        if steps.flying is None:
            assert bool(chunks) == bool(s.running), "work is left but nothing is scheduled"
            assert s.running or not s.waiting, "they wait for nobody"
        assert sum(chunk.tokens for chunk in chunks) <= max(budget, most)
        assert len(s.running) <= most
        assert [c.tokens > 1 for c in chunks] == sorted(c.tokens > 1 for c in chunks)
        if chunks:
            steps.advance(chunks, rng, perhaps_cancel)
        else:
            steps.finish(rng)
        s.pool.check()
        check_holdings(s)
        perhaps_cancel()
    steps.finish(rng)
    assert all(one.finish_reason for one in everyone)
    assert all(one.token_ids == answer_alone(one) for one in everyone if one.finish_reason == "length")
    assert s.pool.used == 0


def test_a_step_is_scheduled_before_the_tokens_of_the_last_one_are_known():
    s = scheduler(max_step_tokens=8)
    one = sequence("one", [1, 2, 3], limit=3)
    s.add(one)
    s.launched(s.schedule())
    assert (one.unknown, one.length, one.uncomputed) == (1, 4, 1)
    ahead = s.schedule(flying=True)
    assert [(chunk.start, chunk.tokens, chunk.samples) for chunk in ahead] == [(3, 1, True)]


def test_what_surely_ends_is_not_computed_further():
    s = scheduler(max_step_tokens=8)
    s.add(sequence("one", [1, 2, 3], limit=1))
    s.launched(s.schedule())
    assert s.schedule(flying=True) == []


def test_nobody_is_preempted_for_a_step_whose_last_one_may_end_somebody():
    s = scheduler(blocks=8, block_size=4, max_step_tokens=8)
    for name in ("first", "second"):
        s.add(sequence(name, [ord(name[0])] * 6, limit=9))
    while True:
        chunks = s.schedule(flying=True)
        if not chunks:
            break
        s.launched(chunks)
        s.landed(chunks)
        for chunk in chunks:
            if chunk.samples:
                sample(chunk)
        s.commit(chunks, 0.1)
    assert (len(s.running), s.preemptions) == (2, 0)
    s.schedule()
    assert s.preemptions > 0


def paced(**options):
    """Beside decodes, a long prompt gets the fewest tokens that a chunk may have."""
    pace = PromptPace(2)
    pace.observe(1, 0, 0.001)
    pace.observe(1, LEAST, 1.0)
    return scheduler(pace=pace, blocks=1024, **{"max_step_tokens": 4 * LEAST, **options})


def paced_beside_a_decode():
    s = paced()
    s.add(sequence("decoding", [1, 2, 3], limit=100))
    run_step(s, s.schedule())
    return s


def original_and_copy():
    """A long prompt, and one that goes on from it."""
    prompt = list(range(10, 10 + 8 * LEAST))
    return sequence("first", prompt), sequence("copy", [*prompt, 5])


def test_a_long_prompt_keeps_to_the_pace_while_others_decode():
    s = paced()
    s.add(sequence("long", list(range(2000, 2000 + 8 * LEAST))))
    assert [chunk.tokens for chunk in s.schedule()] == [4 * LEAST], "nobody decodes"


def test_prompts_of_one_step_pass_a_long_one_that_keeps_to_the_pace():
    s = paced_beside_a_decode()
    longs = [sequence(name, [number] * (8 * LEAST)) for number, name in enumerate(("first", "second"), 10)]
    short = sequence("short", list(range(5000, 5000 + LEAST)))
    for each in (*longs, short):
        s.add(each)
    chunks = {chunk.sequence.request.request_id: chunk.tokens for chunk in s.schedule()}
    assert chunks == {"decoding": 1, "first": LEAST, "short": LEAST}


def test_a_copy_whose_original_is_cancelled_is_long_again():
    s = paced_beside_a_decode()
    first, copy = original_and_copy()
    s.add(first)
    s.add(copy)
    run_step(s, s.schedule())
    s.remove(first)
    while copy.uncomputed > 1:
        step = s.schedule()
        assert next(chunk.tokens for chunk in step if chunk.sequence is copy) <= LEAST
        run_step(s, step)


def test_a_copy_of_a_long_prompt_is_short_from_the_start():
    s = paced_beside_a_decode()
    first, copy = original_and_copy()
    other = sequence("other", list(range(3000, 3000 + 8 * LEAST)))
    for each in (first, other, copy):
        s.add(each)
    run_step(s, s.schedule())
    assert copy.prefill_left == 1, "although the first takes all that long prompts may have"
    while first.uncomputed > 1:
        run_step(s, s.schedule())
    chunks = {chunk.sequence.request.request_id: chunk.tokens for chunk in s.schedule()}
    assert chunks["other"] == LEAST
    assert chunks["copy"] == 1, "it does not wait for the other one's turn to end"
