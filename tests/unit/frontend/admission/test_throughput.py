from __future__ import annotations

import random

from frontend.admission.throughput import Throughput


def seen(a: float, b: float, numbers: list[int], noise: float = 0.0) -> Throughput:
    """Two seconds each with so many sequences, whose steps take a + b n seconds."""
    throughput, rng = Throughput(), random.Random(1)
    for n in numbers:
        for _ in range(10):
            step_s = (a + b * n) * (1 + noise * rng.uniform(-1, 1))
            throughput.note(n, round(0.2 * n / step_s), 0.2)
    return throughput


def test_it_knows_nothing_before_more_were_seen_to_bring_no_more() -> None:
    assert seen(0.006, 0.001, [32] * 20).enough is None
    assert seen(0.006, 0.001, [1, 2, 4, 8, 16]).enough is None


def test_it_is_where_the_throughput_stops_to_grow() -> None:
    assert seen(0.006, 0.001, [1, 4, 8, 16, 24, 32, 48, 64]).enough == 32
    assert seen(0.020, 0.0001, [1, 4, 8, 16, 32, 64]).enough is None, "it still grows"


def test_noise_moves_it_little() -> None:
    enough = seen(0.006, 0.001, [1, 2, 4, 8, 16, 24, 32, 48, 64], noise=0.2).enough
    assert enough is not None
    assert 20 <= enough <= 48


def test_a_few_are_never_too_many() -> None:
    assert seen(0.0001, 0.010, [1, 2, 4, 8, 16]).enough == 8


def test_what_was_seen_at_other_numbers_is_kept() -> None:
    throughput = seen(0.006, 0.001, [1, 4, 8, 16, 24, 32, 48, 64])
    for _ in range(5000):
        throughput.note(32, round(0.2 * 32 / 0.038), 0.2)
    assert throughput.enough == 32
