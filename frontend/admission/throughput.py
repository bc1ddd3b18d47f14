"""How many tokens a second an engine makes, by how many sequences run, and how many are worth running at once.

A step costs something whoever is in it, and something more for each sequence: the throughput grows quickly with the
first ones and then hardly any more. From there on another sequence only adds its time to everybody's tokens. It had
better wait where it can be refused, reordered or sent elsewhere.
"""

from __future__ import annotations

import math

_BUCKETS_PER_OCTAVE = 4
_LEAST_BUSY_S = 1.0  # what a bucket has to have seen before it counts
_MEMORY_S = 10.0  # a bucket's mean is over about so long
_NEAR = 0.9  # of the best throughput is as good
_PROOF = 1.5  # times as many must have been seen to bring no more
_LEAST = 8  # so few are never too many


class Throughput:
    """For one life of an engine.

    Attributes:
        enough: sequences that reach nearly what any number does; None while that is not known.
    """

    def __init__(self) -> None:
        self.enough: int | None = None
        self._buckets: dict[int, _Mean] = {}

    def note(self, running: float, tokens: int, busy_s: float) -> None:
        """For `busy_s` seconds about `running` sequences ran, and made `tokens` tokens."""
        bucket = round(_BUCKETS_PER_OCTAVE * math.log2(max(1.0, running)))
        self._buckets.setdefault(bucket, _Mean()).note(running, tokens / busy_s, busy_s)
        self.enough = self._estimate()

    def _estimate(self) -> int | None:
        seen = [mean for mean in self._buckets.values() if mean.busy_s >= _LEAST_BUSY_S]
        if not seen:
            return None
        best = max(mean.tokens_per_s for mean in seen)
        enough = min(mean.running for mean in seen if mean.tokens_per_s >= _NEAR * best)
        if max(mean.running for mean in seen) < _PROOF * enough:
            return None
        return max(_LEAST, round(enough))


class _Mean:
    def __init__(self) -> None:
        self.running = 0.0
        self.tokens_per_s = 0.0
        self.busy_s = 0.0

    def note(self, running: float, tokens_per_s: float, busy_s: float) -> None:
        self.busy_s = min(_MEMORY_S, self.busy_s + busy_s)
        weight = busy_s / self.busy_s
        self.running += weight * (running - self.running)
        self.tokens_per_s += weight * (tokens_per_s - self.tokens_per_s)
