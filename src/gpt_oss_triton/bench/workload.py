"""What is measured: the requests, and the figures drawn from them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from gpt_oss_triton.bench.rows import Row, milliseconds, say

_VOCABULARY = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point "
    "home water room mother area money story fact month lot right study book eye job word business issue"
)
WORDS = _VOCABULARY.split()


@dataclass(frozen=True, slots=True)
class Workload:
    """Closed loop: `streams` callers, each of which sends its next request when the last one ended."""

    prompt_words: int = 200
    shared_words: int = 0  # leading words that all prompts have in common
    output_tokens: int = 64
    rounds: int = 2  # requests of each stream
    seed: int = 0

    @property
    def warm_up(self) -> Workload:
        """A short one before it, whose prompts share nothing with its own."""
        return Workload(self.prompt_words, 0, 8, rounds=1, seed=99)

    def prompts(self, streams: int, round_number: int = 0) -> list[str]:
        """Others in every round, or a prefix cache would answer the second one."""
        rng = random.Random(f"{self.seed}/{streams}/{round_number}")
        shared = [WORDS[n % len(WORDS)] for n in range(self.shared_words)]
        own = self.prompt_words - self.shared_words
        return [" ".join([*shared, *rng.choices(WORDS, k=own)]) for _ in range(streams * self.rounds)]


@dataclass(slots=True)
class Answer:
    """One request as its caller saw it. Seconds since it was sent."""

    sent: float = 0.0  # by time.perf_counter
    tokens: int = 0
    arrivals: list[float] = field(default_factory=list)  # of each piece of text
    error: str | None = None


def figures(streams: int, answers: list[Answer], seconds: float) -> Row:
    """One row of results: rates per second, latencies in milliseconds."""
    good = [answer for answer in answers if answer.error is None and answer.arrivals]
    gaps = [b - a for answer in good for a, b in zip(answer.arrivals, answer.arrivals[1:], strict=False)]
    row: Row = {
        "streams": streams,
        "ok": len(good),
        "failed": len(answers) - len(good),
        "output_tokens_per_s": round(sum(answer.tokens for answer in good) / seconds, 1),
        "ttft_p50_ms": milliseconds([answer.arrivals[0] for answer in good], 0.5),
        "ttft_p95_ms": milliseconds([answer.arrivals[0] for answer in good], 0.95),
        "gap_p50_ms": milliseconds(gaps, 0.5),
        "gap_p95_ms": milliseconds(gaps, 0.95),
    }
    errors = [answer.error for answer in answers if answer.error]
    return {**row, "first_error": errors[0]} if errors else row


def repeat(measure: Callable[[int, int], Row], streams: list[int], rounds: int) -> None:
    """Measure every number of streams `rounds` times in turn; print each row, then the medians, as JSON lines."""
    rows: dict[int, list[float]] = {n: [] for n in streams}
    for round_number in range(rounds):
        for n in streams:
            row = measure(n, round_number)
            rows[n].append(float(row["output_tokens_per_s"]))
            say(row)
    medians = {n: median(values) for n, values in rows.items()}
    say({"median_output_tokens_per_s": medians})
