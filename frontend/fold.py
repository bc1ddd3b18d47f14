"""Token ids into the parts of an OpenAI answer: the one path for streamed and unstreamed replies.

`AnswerFold` makes text deltas and, last, the `Ending` of an engine's answers. A streamed reply encodes each part as it
comes; `Completion` gathers the same parts into one object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from frontend.content_scores import ContentScores, ScoredDelta, TokenScore
from frontend.triton import Answer
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.wire import Finished


@dataclass(frozen=True, slots=True)
class Ending:
    """Attributes:
    finish_reason: `length` wins when the answer was cut; `tool_calls` when it ended with a complete call.
    token_ids: the whole answer's, control tokens included; None where nobody asked.
    """

    finish_reason: Literal["stop", "length", "tool_calls"]
    reasoning_tokens: int
    token_ids: list[int] | None = None


Part = AnswerDelta | Ending


class AnswerFold:
    """Of one answer.

    Args:
        scored: the engine's answers carry log-probabilities, and content becomes a `ScoredDelta`.
    """

    def __init__(
        self,
        text: AnswerText,
        *,
        return_token_ids: bool = False,
        scored: bool = False,
    ) -> None:
        self._text = text
        self._token_ids: list[int] | None = [] if return_token_ids else None
        self._scores = ContentScores(text) if scored else None

    def feed(self, answer: Answer) -> list[Part]:
        """The parts that this response adds; the last of all is the `Ending`."""
        if self._token_ids is not None:
            self._token_ids += answer.token_ids
        scores = self._scores
        deltas = self._text.feed(answer.token_ids) if scores is None else scores.feed(answer)
        finished = answer.event if isinstance(answer.event, Finished) else None
        if finished is not None:
            deltas += self._text.finish() if scores is None else scores.finish()
        parts: list[Part] = [*deltas]
        if finished is not None:
            parts.append(self._ending(finished))
        return parts

    def _ending(self, finished: Finished) -> Ending:
        reasoning_tokens = self._text.reasoning_tokens
        if finished.finish_reason == "length":
            return Ending("length", reasoning_tokens, self._token_ids)
        return Ending("tool_calls" if self._text.called else "stop", reasoning_tokens, self._token_ids)


@dataclass(slots=True)
class GatheredCall:
    name: str
    arguments: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Completion:
    """The parts of one answer, gathered."""

    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    calls: list[GatheredCall] = field(default_factory=list)
    scores: list[TokenScore] = field(default_factory=list)
    ending: Ending | None = None

    def add(self, part: Part) -> None:
        if isinstance(part, Ending):
            self.ending = part
        elif part.kind == "reasoning":
            self.reasoning.append(part.text)
        elif part.kind == "content":
            self.content.append(part.text)
            if isinstance(part, ScoredDelta):
                self.scores += part.scores
        elif part.name is not None:
            self.calls.append(GatheredCall(part.name))
        else:
            self.calls[-1].arguments.append(part.text)
