"""Log-probabilities are those that transformers' logits give, after the request's own processing."""

import math

import pytest
import torch

from gpt_oss_triton.engine.protocol import NewTokens, SequenceFinished
from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony import tokens
from tests import oracle
from tests.unit.engine.conftest import Call

PROMPT = [*range(300, 340), 7]
BIAS = {7: 4.0, 8: -100.0}


@pytest.fixture(scope="module")
def model(checkpoint):
    return oracle.load(checkpoint("fp32"))


def logprobs(call):
    entries = [event.logprobs for event in call.seen if isinstance(event, NewTokens)]
    assert all(entry is not None for entry in entries)
    assert [len(entry) for entry in entries] == [
        len(event.token_ids) for event in call.seen if isinstance(event, NewTokens)
    ]
    return [one for entry in entries for one in entry]


def processed(logits, before, *, temperature=0.0, top_k=0, top_p=1.0, frequency_penalty=0.0, logit_bias=None):
    """log of the distribution that the token after `before` output tokens is drawn from."""
    logits = logits.double().clone()
    for token in before:
        logits[token] -= frequency_penalty
    for token, bias in (logit_bias or {}).items():
        logits[token] += bias
    logits /= temperature or 1.0
    if temperature and (top_k or top_p < 1):
        p, order = torch.softmax(logits, -1).sort(descending=True)
        p[top_k or len(p) :] = 0
        p /= p.sum()
        cut = order[(p.cumsum(0) - p >= top_p) | (p == 0)]
        logits[cut] = -math.inf
    return torch.log_softmax(logits, -1)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "top_k": 1, "frequency_penalty": 0.5, "logit_bias": BIAS},
        {"temperature": 1.0},
        {"temperature": 0.7, "frequency_penalty": 1.5, "logit_bias": BIAS},
        {"temperature": 1.3, "top_k": 50, "top_p": 0.8},
        {"temperature": 1.0, "top_p": 0.02},
    ],
)
def test_equal_to_transformers(engine, model, options):
    call = Call(engine, PROMPT, max_tokens=6, seed=3, logprobs=20, **options)
    call.end()
    with torch.inference_mode():
        everything = model(torch.tensor([[*PROMPT, *call.tokens]])).logits[0, len(PROMPT) - 1 :]
    for n, (token, entry) in enumerate(zip(call.tokens, logprobs(call), strict=True)):
        want = processed(everything[n], call.tokens[:n], **options)
        assert entry.logprob == pytest.approx(want[token].item(), abs=2e-3)
        best = want.topk(20)
        possible = int(torch.isfinite(best.values).sum())
        assert [value for _, value in entry.top] == pytest.approx(best.values[:possible].tolist(), abs=2e-3)
        for other, value in entry.top:
            assert value == pytest.approx(want[other].item(), abs=2e-3)
        if not options["temperature"]:
            assert entry.top[0] == (token, pytest.approx(entry.logprob))


def test_nothing_comes_unasked_and_only_the_own_when_none_of_the_likeliest_are(engine):
    silent, own = Call(engine, [1, 2]), Call(engine, [1, 2], logprobs=0)
    silent.end()
    own.end()
    assert all(event.logprobs is None for event in silent.seen if isinstance(event, NewTokens))
    assert silent.tokens == own.tokens
    assert all(entry.top == [] and entry.logprob < 0 for entry in logprobs(own))


def test_asking_changes_no_draw_and_company_no_logprob(engine):
    options = {"temperature": 1.0, "top_p": 0.9, "seed": 11, "max_tokens": 12}
    plain, asking = Call(engine, [4], **options), Call(engine, [4], logprobs=3, **options)
    others = [Call(engine, [n], logprobs=n % 4, temperature=0.5 * (n % 2)) for n in range(6)]
    for call in (plain, asking, *others):
        call.end()
    assert plain.tokens == asking.tokens
    alone = Call(engine, [4], logprobs=3, **options)
    alone.end()
    for one, other in zip(logprobs(alone), logprobs(asking), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)


def test_within_a_grammar_only_what_it_allows_has_a_probability(engine):
    call = Call(engine, [1], grammar='start: "yes" | "no"', logprobs=20, ignore_eos=False)
    call.end()
    first, *_, last = logprobs(call)
    assert {tokens.decode([token])[0] for token, _ in first.top} == {"y", "n"}
    assert sum(math.exp(value) for _, value in first.top) == pytest.approx(1)
    assert {token for token, _ in last.top} == {tokens.RETURN, tokens.CALL, tokens.END_OF_TEXT}


def test_stops_cancels_and_preemptions_keep_one_entry_a_token(engine, make_engine):
    stopped = Call(engine, [5, 6], logprobs=2, stop_text=lambda token: "END")
    assert stopped.end().completion_tokens == len(logprobs(stopped)) == 1
    cancelled = Call(engine, [1, 2], logprobs=2, max_tokens=900)
    cancelled.until(NewTokens)
    engine.cancel(cancelled.id)
    assert cancelled.end().completion_tokens == len(logprobs(cancelled))
    # 2 * 4 layers * 2 heads * 16 dims * 4 bytes a token: room for about 250 tokens, and 600 are wanted.
    small = make_engine(kv_cache_gib=250 * 1024 / 2**30, prefix_cache=False)
    calls = [Call(small, [n] * 40, max_tokens=60, logprobs=1) for n in range(1, 7)]
    assert sum(call.end().preemptions for call in calls) > 0
    assert [len(logprobs(call)) for call in calls] == [60] * 6
    small.close()


@pytest.mark.parametrize("count", [-1, 21])
def test_a_count_out_of_range_is_refused(engine, count):
    with pytest.raises(InvalidRequest) as refused:
        Call(engine, [1], logprobs=count)
    assert refused.value.param == "logprobs"


def test_a_row_without_numbers_fails_as_without(make_engine):
    engine = make_engine()
    vocabulary = engine._runner._executor.vocabulary
    logits = vocabulary.logits
    vocabulary.logits = lambda x: logits(x) * float("nan")
    end = Call(engine, [1], logprobs=3).end()
    assert "no numbers" in end.error.message
    vocabulary.logits = logits
    assert isinstance(Call(engine, [1], logprobs=3).end(), SequenceFinished)
    engine.close()
