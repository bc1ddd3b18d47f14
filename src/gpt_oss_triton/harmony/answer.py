"""The model's tokens as an answer: reasoning, content, and where a stop string ends it.

- Content is what was written for the reader: `final`, and `commentary` without a recipient (a preamble).
  The rest is reasoning: `analysis`, and calls to tools that nobody declared, which must be neither lost
  nor shown as the answer.
- Messages of the same kind are separated by a blank line.
- Stop strings match inside one content message. The blank lines between messages are ours and never match.
  The string complete first wins, of several at the same character the longest. Text from the match on is
  withheld, and so is the end of a text that may become a match until that is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from gpt_oss_triton.harmony.parse import Delta, HarmonyParser
from gpt_oss_triton.harmony.stop_strings import StopStrings

Kind = Literal["reasoning", "content"]

_SEPARATOR = "\n\n"


class AnswerDelta(NamedTuple):
    kind: Kind
    text: str


class AnswerText:
    """The fold of one assistant turn; how the tokens are cut into calls does not change it.

    Args:
        stop: stop strings, each at least one character.

    Attributes:
        stopped: the stop string that ended the answer; from then on there is no more text.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._parser = HarmonyParser()
        self._stop_strings = StopStrings(stop) if stop else None
        self._message: dict[Kind, int] = {}  # the last message shown of each kind
        self._watched: int | None = None  # the content message that the stop strings watch

    @property
    def stopped(self) -> str | None:
        return None if self._stop_strings is None else self._stop_strings.found

    @property
    def reasoning_tokens(self) -> int:
        """Text tokens of the analysis channel so far."""
        return self._parser.reasoning_tokens

    def feed(self, token_ids: Iterable[int]) -> list[AnswerDelta]:
        """The text that these tokens add; nothing once a stop string was found."""
        if self.stopped is not None:
            return []
        return self._fold(self._parser.feed(token_ids))

    def finish(self) -> list[AnswerDelta]:
        """What was held back, when no more tokens come."""
        if self.stopped is not None:
            return []
        answer = self._fold(self._parser.finish())
        if self.stopped is None:
            self._release(answer)
        return answer

    def _fold(self, deltas: list[Delta]) -> list[AnswerDelta]:
        answer: list[AnswerDelta] = []
        for delta in deltas:
            if delta.channel == "analysis" or delta.recipient is not None:
                self._release(answer)
                self._show(answer, "reasoning", delta.message, delta.text)
                continue
            if self._stop_strings is None:
                self._show(answer, "content", delta.message, delta.text)
                continue
            if self._watched != delta.message:
                self._release(answer)
            self._watched = delta.message
            self._show(answer, "content", delta.message, self._stop_strings.feed(delta.text))
            if self._stop_strings.found is not None:
                break
        return answer

    def _release(self, answer: list[AnswerDelta]) -> None:
        """The watched message is over: what was held back can no longer become a stop string."""
        if self._stop_strings is not None and self._watched is not None:
            self._show(answer, "content", self._watched, self._stop_strings.flush())
            self._watched = None

    def _show(self, answer: list[AnswerDelta], kind: Kind, message: int, text: str) -> None:
        if not text:
            return
        if self._message.get(kind, message) != message:
            text = _SEPARATOR + text
        self._message[kind] = message
        answer.append(AnswerDelta(kind, text))
