"""The model's tokens as an answer: reasoning, content, calls of functions, and where a stop string ends it.

- Content is what was written for the reader: `final`, and `commentary` without a recipient (a preamble).
- A call is a message, in whatever channel, to a function that was declared: `functions.name`, or `name` alone.
  It is announced by a delta with its name and no text; the arguments follow as the model writes them. It is
  complete when `<|call|>` closes it, or `<|end|>` or `<|return|>`, which some models write in its place.
- The rest is reasoning: `analysis`, and calls to what nobody declared, harmony's own `browser` and `python`
  among them. Nobody would answer these, and they must be neither lost nor shown as the answer.
- Messages of the same kind are separated by a blank line.
- Stop strings match inside one content message. The blank lines between messages are ours and never match.
  The string complete first wins, of several at the same character the longest. Text from the match on is
  withheld, and so is the end of a text that may become a match until that is decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from gpt_oss_triton.harmony.parse import Body, Delta, HarmonyParser
from gpt_oss_triton.harmony.stop_strings import StopStrings
from gpt_oss_triton.harmony.tokens import CALL, END, RETURN

Kind = Literal["reasoning", "content", "tool_call"]

_SEPARATOR = "\n\n"
_NAMESPACE = "functions."
_COMPLETING = frozenset({CALL, END, RETURN})


class AnswerDelta(msgspec.Struct, frozen=True):
    """New text of an answer.

    Attributes:
        text: of a call the new bytes of its arguments, as the model wrote them.
        call: which one of the answer's calls, from 0; None for other kinds.
        name: the function's, in the first delta of a call, whose text is empty.
    """

    kind: Kind
    text: str
    call: int | None = None
    name: str | None = None


class AnswerText:
    """The fold of one assistant turn; how the tokens are cut into calls does not change it.

    Args:
        stop: stop strings, each at least one character.
        tools: names of the functions whose calls are shown as such.

    Attributes:
        stopped: the stop string that ended the answer; from then on there is no more text.
    """

    def __init__(self, stop: Sequence[str] = (), tools: frozenset[str] = frozenset()) -> None:
        self._parser = HarmonyParser()
        self._stop_strings = StopStrings(stop) if stop else None
        self._tools = tools
        # The message that is being shown.
        self._body: Body | None = None
        self._kind: Kind = "content"
        self._call: int | None = None
        self._gap = ""  # goes before its first text
        self._calls = 0
        self._shown: set[Kind] = set()

    @property
    def stopped(self) -> str | None:
        return None if self._stop_strings is None else self._stop_strings.found

    @property
    def reasoning_tokens(self) -> int:
        """Text tokens of the analysis channel so far."""
        return self._parser.reasoning_tokens

    @property
    def called(self) -> bool:
        """Whether the turn, as it stands, ends with a complete call."""
        body = self._parser.body
        return (
            body is not None
            and body is self._body
            and self._kind == "tool_call"
            and body.closed_by in _COMPLETING
        )

    @property
    def in_content(self) -> bool:
        """Whether a text token that was fed last, alone, is one of the content's."""
        body = self._parser.body
        return self._parser.in_body and body is not None and _is_content(body)

    def feed(self, token_ids: Iterable[int]) -> list[AnswerDelta]:
        """The text that these tokens add; nothing once a stop string was found."""
        if self._stop_strings is None:
            return self._fold(self._parser.feed(token_ids))
        answer: list[AnswerDelta] = []
        for token in token_ids:  # one by one, so that nothing after the stop string counts, either
            if self._stop_strings.found is not None:
                break
            answer += self._fold(self._parser.feed((token,)))
        return answer

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
            if delta.body is not self._body:
                self._enter(delta.body, answer)
            text = delta.text
            if self._kind == "content" and self._stop_strings is not None:
                text = self._stop_strings.feed(text)
            if text:
                self._show(answer, text)
            if self._stop_strings is not None and self._stop_strings.found is not None:
                break
        return answer

    def _enter(self, body: Body, answer: list[AnswerDelta]) -> None:
        """Another message begins."""
        self._release(answer)
        self._body = body
        name = self._function(body.recipient)
        if name is not None:
            self._kind, self._gap, self._call = "tool_call", "", self._calls
            self._calls += 1
            answer.append(AnswerDelta("tool_call", "", self._call, name))
            return
        self._kind, self._call = ("content" if _is_content(body) else "reasoning"), None
        self._gap = _SEPARATOR if self._kind in self._shown else ""

    def _function(self, recipient: str | None) -> str | None:
        if recipient is None:
            return None
        name = recipient.removeprefix(_NAMESPACE)
        return name if name in self._tools else None

    def _release(self, answer: list[AnswerDelta]) -> None:
        """The message shown is over: what was held back of it can no longer become a stop string."""
        if self._stop_strings is not None and (held := self._stop_strings.flush()):
            self._show(answer, held)

    def _show(self, answer: list[AnswerDelta], text: str) -> None:
        self._shown.add(self._kind)
        if self._gap:
            text, self._gap = self._gap + text, ""
        answer.append(AnswerDelta(self._kind, text, self._call))


def _is_content(body: Body) -> bool:
    return body.recipient is None and body.channel != "analysis"
