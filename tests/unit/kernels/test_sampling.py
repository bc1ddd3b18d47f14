"""Draws by the CPU kernel and by the reference, against each other and against the definition."""

from __future__ import annotations

import math
import random

import pytest
import torch

from gpt_oss_triton.kernels import sampling
from gpt_oss_triton.kernels.cpu import library
from gpt_oss_triton.kernels.sampling import (
    CpuDraws,
    ReferenceDraws,
    Rule,
    draw,
    forbid,
    forbid_reference,
    invert,
)

needs_kernels = pytest.mark.skipif(
    library.why_unavailable() is not None, reason=str(library.why_unavailable())
)
both = pytest.mark.parametrize("function", [pytest.param(CpuDraws, marks=needs_kernels), ReferenceDraws])


def tokens(drawn):
    return [None if one is None else one.token for one in drawn]


def distribution(logits: torch.Tensor, rule: Rule) -> torch.Tensor:
    """What the rule draws from, [vocabulary], float64, by a full sort."""
    if rule.temperature == 0:
        return torch.softmax(logits.double(), -1)
    scaled = logits.double() / rule.temperature
    order = sorted(range(len(logits)), key=lambda n: (-logits[n].item(), n))
    kept = order[: rule.top_k or len(order)]
    p = torch.softmax(scaled[kept], -1)
    if rule.top_p < 1:
        p = p[: 1 + int((p.cumsum(0)[:-1] < rule.top_p).sum())]
    p = p[p >= rule.min_p * p[0]]
    out = torch.zeros(len(logits), dtype=torch.float64)
    out[kept[: len(p)]] = p / p.sum()
    return out


def random_rule(rng: random.Random, vocabulary: int) -> Rule:
    return Rule(
        temperature=rng.choice([0.0, 0.3, 1.0, 1.7]),
        uniform=rng.random(),
        top_k=rng.choice([0, 0, 1, 3, 50, vocabulary // 2, 2 * vocabulary]),
        top_p=rng.choice([1.0, 1.0, 0.0, 0.3, 0.9, 0.999]),
        min_p=rng.choice([0.0, 0.0, 0.05, 0.5]),
        top=rng.choice([0, 1, 5, 20]),
    )


@both
@pytest.mark.parametrize("vocabulary", [1, 15, 17, 1024, 1025, 2500])
@pytest.mark.parametrize("kind", ["flat", "wide", "ties", "forbidden"])
def test_tokens_and_logprobs_are_those_of_the_definition(function, vocabulary, kind, monkeypatch):
    """The reference's short cut covers a part of these rows only."""
    monkeypatch.setattr(sampling, "CANDIDATES", 256)
    torch.manual_seed(vocabulary)
    rng = random.Random(vocabulary)
    logits = torch.randn(12, vocabulary) * (0.1 if kind == "flat" else 5)
    if kind == "ties":
        logits = logits.round()
    if kind == "forbidden":
        logits[torch.rand(12, vocabulary) < 0.5] = -math.inf
        logits[:, vocabulary // 2] = 1.0
    rules = [random_rule(rng, vocabulary) for _ in range(12)]
    for row, rule, drawn in zip(logits, rules, function(logits.clone(), rules).read(), strict=True):
        want = distribution(row, rule)
        if rule.temperature == 0:
            assert drawn.token == int(row.argmax())
        else:
            reached = want.cumsum(0)
            assert (
                reached[drawn.token] - want[drawn.token] - 1e-5 <= rule.uniform <= reached[drawn.token] + 1e-5
            )
        assert drawn.logprob == pytest.approx(math.log(want[drawn.token]), abs=2e-4)
        best = want.topk(min(rule.top, int((want > 0).sum())))
        assert [value for _, value in drawn.top] == pytest.approx(best.values.log().tolist(), abs=2e-4)
        assert all(want[token].log() == pytest.approx(value, abs=2e-4) for token, value in drawn.top)
        assert len({token for token, _ in drawn.top}) == len(drawn.top)


@needs_kernels
@pytest.mark.parametrize(
    "options", [{}, {"top_k": 40}, {"top_p": 0.9}, {"top_p": 0.9, "min_p": 0.2}, {"top_k": 5000}]
)
@pytest.mark.parametrize("spread", [0.5, 4])
def test_the_whole_vocabulary_is_drawn_from_as_by_the_reference(options, spread):
    """But where a target falls within rounding of a border between two tokens."""
    torch.manual_seed(0)
    logits = torch.randn(16, 201_088) * spread
    rules = [Rule(0.3 + n / 16, (n + 0.5) / 16, **options) for n in range(16)]
    same = [
        a == b
        for a, b in zip(CpuDraws(logits, rules).read(), ReferenceDraws(logits, rules).read(), strict=True)
    ]
    assert sum(same) >= 15


@pytest.mark.parametrize("function", [pytest.param(CpuDraws, marks=needs_kernels), ReferenceDraws, draw])
def test_the_number_divides_the_interval_by_probability(function):
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(4, 1)
    rules = [Rule(1.0, uniform) for uniform in (0.05, 0.15, 0.55, 0.999)]
    assert tokens(function(logits, rules).read()) == [0, 1, 2, 3]


@both
def test_what_cannot_be_drawn_is_not(function):
    logits = torch.full((3, 40), -math.inf)
    logits[:, 20] = 5.0
    rules = [Rule(1.0, 0.0), Rule(0.01, 0.5, top_p=0.5), Rule(2.0, 1 - 2**-53, top_k=30, top=5)]
    drawn = function(logits, rules).read()
    assert tokens(drawn) == [20, 20, 20]
    assert drawn[2].top == ((20, 0.0),)


@both
def test_of_equal_logits_the_first_are_kept(function):
    logits = torch.tensor([[0.0, 1.0, 1.0, 1.0, -1.0]])
    seen = {tokens(function(logits, [Rule(1.0, n / 50, top_k=2)]).read())[0] for n in range(50)}
    assert seen == {1, 2}
    seen = {tokens(function(logits, [Rule(1.0, n / 50, top_p=0.5)]).read())[0] for n in range(50)}
    assert seen == {1, 2}


@both
def test_rows_without_numbers_have_no_token_and_do_no_harm(function):
    torch.manual_seed(0)
    logits = torch.randn(4, 100)
    logits[0, 3] = math.nan
    logits[1, 4] = math.inf
    logits[2] = -math.inf
    for options in ({}, {"top_p": 0.5}, {"top_k": 3, "top": 4}):
        drawn = function(logits, [Rule(1.0, 0.5, **options)] * 4).read()
        assert drawn[:3] == [None] * 3
        assert drawn[3] == function(logits[3:], [Rule(1.0, 0.5, **options)]).read()[0]


@both
def test_a_row_does_not_depend_on_its_company(function):
    torch.manual_seed(0)
    logits = torch.randn(9, 3000)
    rules = [random_rule(random.Random(n), 3000) for n in range(9)]
    together = function(logits, rules).read()
    assert together == [function(logits[n : n + 1], rules[n : n + 1]).read()[0] for n in range(9)]


@pytest.mark.parametrize("function", [pytest.param(forbid, marks=needs_kernels), forbid_reference])
@pytest.mark.parametrize("vocabulary", [1, 31, 32, 33, 1000])
def test_only_what_is_allowed_stays(function, vocabulary):
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (-(-vocabulary // 32) * 32,))
    mask = (bits.view(-1, 32) << torch.arange(32)).sum(dim=1).to(torch.int32)
    logits = torch.randn(vocabulary)
    want = torch.where(bits[:vocabulary] == 1, logits, -math.inf)
    function(logits, mask)
    assert torch.equal(logits, want)


def test_a_sum_that_rises_where_nothing_weighs_draws_the_likeliest(monkeypatch):
    """As a GPU's parallel sum of one row can, by rounding."""
    p = torch.tensor([[0.25, 0.0, 0.75]])
    monkeypatch.setattr(torch.Tensor, "cumsum", lambda self, dim: torch.tensor([[0.25, 0.25001, 1.0]]))
    assert invert(p, [0.250005]).tolist() == [2]
