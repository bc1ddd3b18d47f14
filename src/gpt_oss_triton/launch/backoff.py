"""When to start something again that keeps ending."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Waits longer after each quick death, and says when it is enough.

    Attributes:
        first_s: wait after the first quick death; doubled after each further one.
        longest_s: upper bound of a wait.
        quick_s: a life at least this long was a good one, after which waits begin anew.
        limit: lives in a row that never served, after which another try makes no sense.
        deaths: quick deaths in a row.
        failures: lives in a row that never served.
    """

    first_s: float = 0.5
    longest_s: float = 10.0
    quick_s: float = 60.0
    limit: int = 6
    deaths: int = 0
    failures: int = 0

    def after(self, life_s: float, *, served: bool) -> float | None:
        """Seconds to wait after a life of `life_s`, or None: give up."""
        self.deaths = 1 if life_s >= self.quick_s else self.deaths + 1
        self.failures = 0 if served else self.failures + 1
        if self.failures >= self.limit:
            return None
        return min(self.first_s * 2.0 ** (self.deaths - 1), self.longest_s)
