"""How much of a long prompt a step may compute while others wait for their next token.

A chunk makes the step longer for everybody who decodes in it. One long step is a hitch; a prompt of thousands of
tokens makes a row of them. What a token of a prompt costs depends on the machine, the model and the context, so it
is learned from the steps.
"""

from __future__ import annotations

LEAST = 32  # tokens of a chunk; with fewer, reading the weights costs more than it spares
_ROUND = 16
_WEIGHT = 0.3  # of the newest step in the means


class PromptPace:
    """Used under the engine's lock."""

    def __init__(self, stretch: float) -> None:
        """`stretch`: how many times as long as a step of decodes alone one with a chunk in it may be; 0: any."""
        self._stretch = stretch
        self._decode_s: float | None = None  # a step of decodes alone
        self._token_s: float | None = None  # what a prompt's token adds to one

    def observe(self, decodes: int, prompt_tokens: int, seconds: float) -> None:
        """A step took so long. `prompt_tokens`: of all chunks in it; what is computed again after a preemption is like a prompt."""
        if decodes and not prompt_tokens:
            self._decode_s = _mean(self._decode_s, seconds)
        elif decodes and prompt_tokens >= LEAST and self._decode_s is not None:
            added = max(0.0, seconds - self._decode_s)
            self._token_s = _mean(self._token_s, added / prompt_tokens)

    def tokens(self, most: int) -> int:
        """Of a long prompt in the next step, if that has decodes; `most` where nothing is known yet."""
        if not self._stretch or self._decode_s is None or not self._token_s:
            return most
        fitting = (self._stretch - 1) * self._decode_s / self._token_s
        if fitting >= most:  # also where it is infinite: tokens may have seemed to cost nothing for long
            return most
        return min(most, max(LEAST, int(fitting) // _ROUND * _ROUND))


def _mean(before: float | None, newest: float) -> float:
    return newest if before is None else before + _WEIGHT * (newest - before)
