"""Speculative decoding by prompt lookup: what followed when the last tokens occurred before may follow again.

A guess costs little where a step's time goes into reading weights, as on a CPU with few sequences. It changes no
answer: each position's token is sampled as it would be without guesses, by its own number, and the guesses count as
far as they say the same. That is exact for greedy and for sampled tokens alike.
"""

from __future__ import annotations

from array import array

GRAM = 3  # tokens that must have occurred before
LOOK_BACK = 8192  # tokens that are searched
MAX_DRAFT = 7  # tokens guessed at once
FIRST_REST, LONGEST_REST = 8, 256  # tokens sampled without a guess after one that was all wrong
MAX_SEQUENCES = 6  # in a step; with more of them, every weight is read and used anyway
_BYTES = array("i").itemsize


class PromptLookup:
    """Guesses how one sequence goes on, as long as it pays: a right guess makes the next one twice as long, a wrong
    one shorter, and one token that was wrong rests for a while."""

    def __init__(self, token_ids: list[int]) -> None:
        """`token_ids`: the sequence's, which grow."""
        self._token_ids = token_ids
        self._bytes = bytearray()  # of the tokens so far
        self._length = 2
        self._rest = FIRST_REST
        self._silent_until = 0  # tokens

    def draft(self, most: int) -> list[int]:
        """Up to `most` tokens that may follow; often none."""
        tokens = self._token_ids
        if most < 1 or len(tokens) < max(GRAM + 1, self._silent_until):
            return []
        self._bytes += array("i", tokens[len(self._bytes) // _BYTES :]).tobytes()
        follows = self._last_occurrence()
        if follows is None:
            return []
        # What is repeating itself right now goes on from its beginning.
        period = len(tokens) - follows
        return [tokens[follows + n % period] for n in range(min(most, self._length))]

    def judge(self, drafted: int, accepted: int) -> None:
        """Of the last draft's tokens so many came true."""
        if accepted == drafted:
            self._length = min(2 * self._length, MAX_DRAFT)
            self._rest = FIRST_REST
        elif accepted or self._length > 1:
            self._length = max(1, accepted, self._length // 2)
        else:
            self._silent_until = len(self._token_ids) + self._rest
            self._rest = min(2 * self._rest, LONGEST_REST)

    def _last_occurrence(self) -> int | None:
        """Where that ends which the last tokens repeat."""
        known, gram = self._bytes, self._bytes[-GRAM * _BYTES :]
        first, last = max(0, len(known) - LOOK_BACK * _BYTES), len(known) - _BYTES
        while (at := known.rfind(gram, first, last)) >= 0:
            if at % _BYTES == 0:
                return at // _BYTES + GRAM
            last = at + len(gram) - 1
        return None
