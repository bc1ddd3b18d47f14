"""Leases keep what sessions will come back for, and nothing that a running sequence needs."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gpt_oss_triton.engine import leases as leases_module
from gpt_oss_triton.engine.kv_cache import BlockPool
from gpt_oss_triton.engine.leases import Leases
from gpt_oss_triton.wire import Lease
from tests.unit.engine.test_kv_cache import names_of


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Case:
    """A pool of blocks of one token, with leases over it."""

    def __init__(self, blocks=16, watermark=0.75):
        self.clock = Clock()
        self.pool = BlockPool(blocks, 1)
        self.leases = Leases(self.pool, watermark, self.clock)

    def turn(self, session, tokens, idle_s=10.0):
        """A sequence runs and ends. Returns its names."""
        names = names_of(tokens, 1)
        shared = self.pool.match(names)
        self.pool.take(shared)
        fresh = len(tokens) - len(shared)
        self.leases.make_room(fresh)
        blocks = shared + self.pool.allocate(fresh)
        for block, name in zip(blocks, names, strict=True):
            self.pool.publish(block, name)
        if session is not None:
            self.leases.grant(Lease(session, idle_s), self.pool.match(names))
        self.pool.release(blocks)
        self.pool.check()
        return names

    def ended(self):
        return {reason: n for reason, n in self.leases.ended.items() if n}


def test_a_lease_keeps_its_blocks_from_others():
    case = Case()
    names = case.turn("s", [1, 2, 3])
    for n in range(10):
        case.turn(None, [100 + n] * 5)
    assert len(case.pool.match(names)) == 3
    assert (len(case.leases), case.pool.kept, case.ended()) == (1, 3, {})


def test_a_new_turn_replaces_the_lease_and_keeps_the_common_prefix():
    case = Case()
    case.turn("s", [1, 2, 3])
    case.turn("s", [1, 2, 4, 5])
    assert (len(case.leases), case.pool.kept, case.ended()) == (1, 4, {"replaced": 1})


def test_two_sessions_share_blocks_and_each_keeps_them():
    case = Case()
    names = case.turn("s", [1, 2, 3])
    case.turn("t", [1, 2, 4])
    assert case.pool.kept == 4
    case.leases.end(["t"])
    assert len(case.pool.match(names)) == 3
    assert (case.pool.kept, case.ended()) == (3, {"asked": 1})


def test_an_idle_session_ends_and_one_in_use_does_not():
    case = Case()
    case.turn("s", [1, 2], idle_s=10)
    case.turn("t", [3, 4], idle_s=10)
    case.clock.now += 6
    case.leases.renew(Lease("s", 10))
    assert case.leases.due_in() == 4
    case.clock.now += 4
    case.leases.sweep()
    assert (len(case.leases), case.ended()) == (1, {"idle": 1})
    assert case.leases.due_in() == 6
    case.clock.now += 6
    case.leases.sweep()
    assert (len(case.leases), case.ended(), case.leases.due_in()) == (0, {"idle": 2}, None)
    assert (case.pool.kept, case.pool.cached) == (0, 4), "the prefixes stay as long as nobody needs them"


def test_a_sweep_before_anything_is_due_ends_nothing():
    case = Case()
    case.turn("s", [1], idle_s=10)
    case.clock.now += 9.9
    case.leases.sweep()
    assert len(case.leases) == 1
    assert case.leases.due_in() == pytest.approx(0.1)


def test_above_the_watermark_the_least_recently_used_end():
    case = Case(blocks=16, watermark=0.5)
    for session in "abcd":
        case.turn(session, [ord(session)] * 2)
    case.leases.renew(Lease("a", 10))
    case.turn("e", [1, 2, 3])
    assert case.ended() == {"pressure": 2}
    assert case.pool.kept == 7
    case.leases.end(["b", "c"])
    assert "asked" not in case.ended(), "those had ended"


def test_a_session_larger_than_the_watermark_keeps_its_beginning():
    case = Case(blocks=16, watermark=0.5)
    names = case.turn("s", list(range(12)))
    assert case.pool.kept == 8
    case.turn(None, [100 + n for n in range(8)])
    assert len(case.pool.match(names)) == 8
    assert case.ended() == {}


def test_without_a_share_of_the_blocks_there_are_no_leases():
    case = Case(watermark=0.0)
    case.turn("s", [1, 2])
    assert (len(case.leases), case.pool.pinned, case.leases.due_in()) == (0, 0, None)


def test_the_number_of_leases_is_bounded(monkeypatch):
    monkeypatch.setattr(leases_module, "MAX_LEASES", 3)
    case = Case()
    for n in range(5):
        case.turn(f"s{n}", [7])
    assert (len(case.leases), case.ended()) == (3, {"pressure": 2})


def test_ending_what_is_not_there_counts_nothing():
    case = Case()
    case.leases.end(["nobody"])
    case.leases.renew(Lease("nobody", 5))
    assert (len(case.leases), case.ended()) == (0, {})


SESSIONS = st.sampled_from("abcd")
TOKENS = st.lists(st.integers(0, 1), min_size=1, max_size=12)


class PoolAndLeases(RuleBasedStateMachine):
    """Sequences come, end in every way, and lease what they held; time passes."""

    @initialize(blocks=st.integers(2, 20), size=st.integers(1, 3), watermark=st.floats(0, 1))
    def start(self, blocks, size, watermark):
        self.clock = Clock()
        self.pool = BlockPool(blocks, size)
        self.leases = Leases(self.pool, watermark, self.clock)
        self.most = int(watermark * blocks)
        self.held = []  # (blocks, names of the full ones) of each sequence
        self.granted = 0
        self.claimed = {}  # session -> the names that its last turn published
        self.expires = {}

    @rule(tokens=TOKENS)
    def admit(self, tokens):
        names = names_of(tokens, self.pool.block_size)
        shared = self.pool.match(names)
        fresh = -(-len(tokens) // self.pool.block_size) - len(shared)
        if self.pool.available < fresh + self.pool.unclaimed(shared):
            return
        self.pool.take(shared)
        enough, before = self.pool.allocatable >= fresh, dict(self.leases.ended)
        self.leases.make_room(fresh)
        assert not enough or self.leases.ended == before, "a lease ended though there was room"
        blocks = shared + self.pool.allocate(fresh)
        for block, name in zip(blocks, names, strict=False):
            self.pool.publish(block, name)
        self.held.append((blocks, names))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), session=SESSIONS, idle_s=st.integers(1, 20))
    def finish(self, data, session, idle_s):
        blocks, names = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        published = self.pool.match(names)
        self.leases.grant(Lease(session, idle_s), published)
        self.pool.release(blocks)
        if published and self.most:
            self.granted += 1
            self.claimed[session] = names[: min(len(published), self.most)]
            self.expires[session] = self.clock.now + idle_s
            assert session in self.leases._claims

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def cancel(self, data):
        blocks, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.pool.release(blocks)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def fail(self, data):
        blocks, _ = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        self.leases.forget(blocks)
        self.pool.disown(blocks)
        self.pool.release(blocks)

    @rule(session=SESSIONS, idle_s=st.integers(1, 20))
    def come_back(self, session, idle_s):
        self.leases.renew(Lease(session, idle_s))
        self.expires[session] = self.clock.now + idle_s

    @rule(sessions=st.lists(SESSIONS))
    def end(self, sessions):
        self.leases.end(sessions)
        assert not set(sessions) & set(self.leases._claims)

    @rule(seconds=st.integers(0, 10))
    def wait(self, seconds):
        before = set(self.leases._claims)
        self.clock.now += seconds
        self.leases.sweep()
        due = {session for session in before if self.expires[session] <= self.clock.now}
        assert set(self.leases._claims) == before - due

    @invariant()
    def books_are_kept(self):
        if not hasattr(self, "pool"):
            return
        self.pool.check()
        assert self.pool.used == len({block for blocks, _ in self.held for block in blocks})
        assert self.pool.pinned <= self.most
        claims = self.leases._claims
        for block in range(self.pool.total):
            assert self.pool._pins[block] == sum(block in claim.blocks for claim in claims.values())
        assert self.granted == len(claims) + sum(self.leases.ended.values())

    @invariant()
    def what_is_leased_is_found(self):
        if hasattr(self, "pool"):
            for session, claim in self.leases._claims.items():
                assert self.pool.match(self.claimed[session]) == claim.blocks


PoolAndLeases.TestCase.settings = settings(max_examples=80, stateful_step_count=40)
TestPoolAndLeases = PoolAndLeases.TestCase
