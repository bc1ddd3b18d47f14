"""Sampling draws from the distribution that the options define, reproducibly."""

import collections

import pytest
import torch

from gpt_oss_triton.engine import sampler
from gpt_oss_triton.engine.sampler import RowSampling
from gpt_oss_triton.kernels.sampling import CANDIDATES
from gpt_oss_triton.wire import GenerationOptions

CPU = torch.device("cpu")


def row(vocabulary, prompt=(), **options):
    return RowSampling(GenerationOptions(**options), list(prompt), vocabulary, CPU)


def sample(logits, rows, number=0):
    return [
        None if outcome is None else outcome.token
        for outcome in sampler.SampledRows(logits, [sampler.Place(row, number) for row in rows]).outcomes()
    ]


def expected(logits, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """The definition, by a full sort."""
    p, order = torch.sort(torch.softmax(logits / temperature, -1), descending=True)
    if top_k:
        p[top_k:] = 0
    p = p / p.sum()
    p[1:][(p.cumsum(0) - p)[1:] >= top_p] = 0
    p[p < min_p * p[0]] = 0
    out = torch.zeros_like(p)
    out[order] = p / p.sum()
    return out


def draws(logits, n, **options):
    r = row(len(logits), seed=7, **options)
    counts = collections.Counter()
    for number in range(n):
        token = sample(logits.unsqueeze(0), [r], number)[0]
        r.observe(token)
        counts[token] += 1
    return counts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.5},
        {"temperature": 1.7, "top_k": 3},
        {"top_p": 0.6},
        {"top_p": 0.0},
        {"min_p": 0.3},
        {"top_k": 5, "top_p": 0.8, "min_p": 0.1},
    ],
)
def test_frequencies_match_the_definition(options):
    logits = torch.tensor([2.0, 1.0, 0.5, 0.2, -1.0, -3.0, 1.5])
    want = expected(logits, **options)
    n = 4000
    counts = draws(logits, n, **options)
    for token in range(len(logits)):
        sigma = (n * want[token] * (1 - want[token])) ** 0.5
        assert abs(counts[token] - n * want[token]) <= 5 * sigma + 1e-6, (token, counts, want)


@pytest.mark.parametrize(
    "options", [{"top_p": 0.999}, {"min_p": 0.9}, {"top_k": 3000}, {"top_k": CANDIDATES}]
)
def test_cuts_wider_than_the_candidates_are_still_exact(options):
    vocabulary = 4 * CANDIDATES
    logits = torch.linspace(0, 0.1, vocabulary)  # nearly flat: every cut reaches past the candidates
    allowed = expected(logits, **options) > 0
    seen = draws(logits, 400, **options)
    assert all(allowed[token] for token in seen)
    ranks = [vocabulary - 1 - token for token in seen]
    if options != {"top_k": CANDIDATES}:
        assert max(ranks) > CANDIDATES, "tokens behind the candidates must be reachable"


def test_greedy_rows_take_the_best_and_ignore_the_seed():
    logits = torch.tensor([[0.0, 3.0, 1.0], [5.0, 3.0, 1.0]])
    assert sample(logits, [row(3, temperature=0), row(3, temperature=0, seed=5)]) == [1, 0]


def test_a_seeded_row_draws_the_same_alone_and_in_company():
    torch.manual_seed(0)
    logits = torch.randn(4, 500)
    alone = [sample(logits[n : n + 1], [row(500, seed=n, top_p=0.9 if n % 2 else 1.0)])[0] for n in range(4)]
    together = sample(logits, [row(500, seed=n, top_p=0.9 if n % 2 else 1.0) for n in range(4)])
    assert alone == together


def test_unseeded_rows_differ():
    logits = torch.zeros(1, 100_000)
    assert len({sample(logits, [row(100_000)])[0] for _ in range(8)}) > 1


def test_penalties_count_output_and_repetition_counts_the_prompt_too():
    logits = torch.tensor([[1.0, 0.9, -1.0]])
    frequency = row(3, temperature=0, frequency_penalty=0.2)
    assert sample(logits.clone(), [frequency]) == [0]
    frequency.observe(0)
    assert sample(logits.clone(), [frequency]) == [1]
    frequency.observe(1)
    assert sample(logits.clone(), [frequency]) == [0]
    presence = row(3, prompt=[0], temperature=0, presence_penalty=0.2)
    assert sample(logits.clone(), [presence]) == [0], "the prompt does not count"
    repetition = row(3, prompt=[0], temperature=0, repetition_penalty=1.5)
    assert sample(logits.clone(), [repetition]) == [1]
    negative = row(2, prompt=[0], temperature=0, repetition_penalty=2.0)
    assert sample(torch.tensor([[-1.0, -1.5]]), [negative]) == [1], "negative logits move away from zero"


def test_logit_bias_forces_and_forbids():
    logits = torch.tensor([[1.0, 0.0, 0.5]])
    assert sample(logits.clone(), [row(3, temperature=0, logit_bias={1: 100.0})]) == [1]
    assert sample(logits.clone(), [row(3, temperature=1, logit_bias={0: -100.0, 2: -100.0})]) == [1]


def test_uniform_is_a_function_of_seed_and_position():
    one, other = row(4, seed=2**64 - 1), row(4, seed=2**64 - 1)
    assert one.uniform(3) == other.uniform(3)
    assert one.uniform(3) != one.uniform(4)
    assert 0 <= one.uniform(0) < 1


def test_a_row_without_numbers_gives_no_token():
    logits = torch.tensor([[0.0, float("nan")], [0.0, float("inf")], [0.0, 1.0]])
    for options in ({"temperature": 0}, {"temperature": 1}, {"temperature": 1, "top_p": 0.5}):
        assert sample(logits.clone(), [row(2, **options) for _ in range(3)])[:2] == [None, None]
        assert sample(logits.clone(), [row(2, **options) for _ in range(3)])[2] is not None


def test_a_tiny_temperature_is_greedy():
    logits = torch.tensor([[1.0, 5.0, 4.999]])
    assert sample(logits, [row(3, temperature=1e-39)]) == [1]


def test_seeded_draws_and_penalties_survive_a_preemption():
    """A row keeps its state while its sequence is recomputed."""
    one = row(50, seed=3, frequency_penalty=1.0, temperature=1.0)
    logits = torch.zeros(1, 50)
    first = sample(logits.clone(), [one])[0]
    assert sample(logits.clone(), [one])[0] == first, "nothing observed yet: the same draw"
