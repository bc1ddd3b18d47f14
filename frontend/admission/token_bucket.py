"""A rate limit that allows bursts: a bucket that fills steadily and from which every use takes."""

from __future__ import annotations

from dataclasses import dataclass

_ROUNDING = 1e-6  # of what flows in; who waited as long as it was told is not sent away for it


@dataclass(slots=True)
class TokenBucket:
    """Holds a minute's worth at most. Its level may be below zero, when more was used than was foreseen.

    Attributes:
        per_minute: what flows in, and what it holds.
        filled_at: seconds on some clock, the one that all calls use.
    """

    per_minute: int
    level: float
    filled_at: float

    def fill(self, now: float) -> None:
        self.level = min(self.per_minute, self.level + (now - self.filled_at) * self.per_minute / 60)
        self.filled_at = now

    def wait_s(self, amount: float) -> float:
        """Seconds until `amount` may be used: none where it is there. What is more than the whole bucket may
        be used when that is full, or it never could."""
        missing = min(amount, self.per_minute) - self.level
        return missing * 60 / self.per_minute if missing > _ROUNDING else 0.0

    @property
    def reset_s(self) -> float:
        """Seconds until it is full."""
        return self.wait_s(self.per_minute)
