"""Guesses change how fast an answer comes, and nothing of what it says."""

import random

import pytest

from gpt_oss_triton.engine import speculation
from gpt_oss_triton.engine.protocol import NewTokens
from gpt_oss_triton.engine.speculation import LOOK_BACK, MAX_DRAFT, PromptLookup
from tests.unit.engine.conftest import Call


def drafts(tokens, most=MAX_DRAFT, *, right=0):
    """Of a lookup whose last drafts were right so many times."""
    lookup = PromptLookup(tokens)
    for _ in range(right):
        lookup.judge(2, 2)
    return lookup.draft(most)


def test_what_followed_last_time_is_guessed():
    assert drafts([1, 2, 3, 4, 5, 6, 9, 1, 2, 3], right=2) == [4, 5, 6, 9, 1, 2, 3]
    assert drafts([1, 2, 3, 4, 1, 2, 3, 5, 7, 1, 2, 3], most=2) == [5, 7], "the latest occurrence counts"
    assert drafts([1, 2, 3, 4, 5, 2, 3]) == [], "two tokens are too few"


def test_what_repeats_itself_goes_on():
    assert drafts([7, 7, 7, 7], right=2) == [7] * MAX_DRAFT
    assert drafts([9, 1, 2, 1, 2, 1], right=2) == [2, 1, 2, 1, 2, 1, 2]


def test_a_gram_is_found_at_whole_tokens_only():
    # The bytes of 256, 65536, 1 occur in those of other tokens, shifted by one byte.
    shifted = [1, 256, 65536]
    noise = [token << 8 for token in shifted]
    assert drafts([*noise, 5, 5, 5, *shifted]) == []
    assert drafts([*shifted, 8, 9, *noise, *shifted], most=2) == [8, 9]


def test_only_so_many_tokens_are_searched():
    gap = list(range(1000, 1000 + LOOK_BACK))
    assert drafts([1, 2, 3, 4, *gap, 1, 2, 3]) == []
    assert drafts([1, 2, 3, 4, *gap[: LOOK_BACK - 10], 1, 2, 3], most=1) == [4]


def test_right_guesses_grow_and_wrong_ones_rest():
    tokens = [5] * 20
    lookup = PromptLookup(tokens)
    seen = []
    for _ in range(4):
        guess = lookup.draft(100)
        seen.append(len(guess))
        lookup.judge(len(guess), len(guess))
    assert seen == [2, 4, MAX_DRAFT, MAX_DRAFT]
    rests = []
    for _ in range(3):
        while guess := lookup.draft(100):
            lookup.judge(len(guess), 0)
        began = len(tokens)
        while not lookup.draft(100):
            tokens.append(5)
        rests.append(len(tokens) - began)
    assert rests == [8, 16, 32]
    lookup.judge(1, 1)
    assert len(lookup.draft(100)) == 2


def test_no_room_no_guess():
    assert drafts([7] * 9, most=0) == []
    assert drafts([7] * 9, most=-1) == []
    assert drafts([7] * 9, most=1) == [7]


# ------------------------------------------------------------------------------------------ the engine


@pytest.fixture(scope="module", params=["fp32", "mxfp4"])
def engines(make_engine, request):
    pair = make_engine(request.param), make_engine(request.param, speculation="off")
    yield pair
    for engine in pair:
        engine.close()


def repeating_prompts(n, rng):
    words = [[rng.randrange(199_998) for _ in range(rng.randrange(2, 9))] for _ in range(4)]
    return [[token for _ in range(8) for token in rng.choice(words)] for _ in range(n)]


CIRCLES = {"logit_bias": {7: 30.0, 8: 30.0, 9: 30.0}}  # in which few tokens soon go
OPTIONS = [
    {},
    CIRCLES,
    {**CIRCLES, "temperature": 1.5, "top_p": 0.9},
    {"temperature": 1.0, "top_k": 2},
    {"temperature": 1.0, "top_k": 2, "repetition_penalty": 1.01},
    {**CIRCLES, "logprobs": 2},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("together", [1, 6])
def test_the_tokens_are_those_without_guesses(engines, options, together):
    prompts = repeating_prompts(6, random.Random(1))
    answers = []
    for engine in engines:
        answers.append([])
        for first in range(0, 6, together):
            calls = [
                Call(engine, prompts[n], seed=n, max_tokens=60, **options)
                for n in range(first, first + together)
            ]
            ends = [call.end() for call in calls]
            assert [end.completion_tokens for end in ends] == [60] * together
            held = engine.load().block_shape.held
            assert [end.blocks for end in ends] == [held(end.prompt_tokens + 59) for end in ends]
            answers[-1] += [call.tokens for call in calls]
    assert answers[0] == answers[1]


def test_guesses_are_counted_and_save_steps(engines):
    counted = []
    for engine in engines:
        before = engine.load()
        call = Call(engine, [3] * 40, max_tokens=200, **CIRCLES)
        call.end()
        after = engine.load()
        counted.append(
            (
                after.steps - before.steps,
                after.drafted_tokens - before.drafted_tokens,
                after.accepted_tokens - before.accepted_tokens,
            )
        )
        assert after.output_tokens - before.output_tokens == 200
    (steps, drafted, right), without = counted
    assert without == (200, 0, 0)
    assert steps + right == 200
    assert 0 < right <= drafted


def test_an_end_within_a_draft_is_the_end(engines):
    guessing, plain = engines
    free = Call(plain, [3] * 40, max_tokens=200, **CIRCLES)
    free.end()
    for stop in {free.tokens[n] for n in (20, 50, 100, 150)}:
        ends = []
        for engine in engines:
            call = Call(engine, [3] * 40, max_tokens=200, **CIRCLES, stop_token_ids=[stop])
            end = call.end()
            ends.append((call.tokens, end.finish_reason, end.stop, end.completion_tokens, end.blocks))
        assert ends[0] == ends[1]
    for limit in range(60, 75):
        call = Call(guessing, [3] * 40, max_tokens=limit, **CIRCLES)
        assert call.end().completion_tokens == len(call.tokens) == limit
        assert call.tokens == free.tokens[:limit]
    guessing._scheduler.pool.check()


def test_a_stop_text_that_raises_within_a_draft_fails_its_request(engines):
    seen = []

    def broken(token):
        seen.append(token)
        if len(seen) == 120:
            raise RuntimeError("foreign")

    call = Call(engines[0], [3] * 40, max_tokens=200, **CIRCLES, stop_text=broken)
    assert "failed" in call.end().error.message
    again = Call(engines[0], [3] * 40, max_tokens=10)
    assert again.end().finish_reason == "length"
    engines[0]._scheduler.pool.check()


def test_answers_in_turns_reuse_what_guesses_left_in_the_cache(engines):
    """Wrong guesses' keys and values must have been computed over before their block is shared."""
    answers = []
    for engine in engines:
        history, told = [3] * 40, []
        for turn in range(4):
            call = Call(engine, history, max_tokens=50, **CIRCLES)
            end = call.end()
            assert turn == 0 or end.cached_tokens >= len(history) - 40
            told.append(call.tokens)
            history = [*history, *call.tokens, 100 + turn]
        answers.append(told)
    assert answers[0] == answers[1]


def test_many_sequences_do_without(make_engine, monkeypatch):
    monkeypatch.setattr(speculation, "MAX_SEQUENCES", 2)
    engine = make_engine()
    calls = [Call(engine, [3] * 40, max_tokens=60, **CIRCLES) for _ in range(3)]
    for call in calls:
        call.until(NewTokens)
    for call in calls:
        call.end()
    few = engine.load().drafted_tokens
    Call(engine, [3] * 40, max_tokens=60, **CIRCLES).end()
    assert engine.load().drafted_tokens > few
    engine.close()
