"""The log-probabilities of an answer's tokens, brought to the content that they belong to."""

from __future__ import annotations

from msgspec import Struct

from frontend.triton import Answer
from gpt_oss_triton.errors import InternalError
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL
from gpt_oss_triton.wire import TokenLogprobs

LEAST_LOGPROB = -9999.0  # OpenAI's for what is all but impossible; JSON has no infinity


class TokenScore(Struct, frozen=True):
    token_id: int
    logprobs: TokenLogprobs


class ScoredDelta(AnswerDelta, frozen=True, kw_only=True):
    """Content, with the tokens that were needed to show it and that no delta before it had."""

    scores: list[TokenScore]


class ContentScores:
    """Feeds a text token by token, to know of each whether it is one of the content's.

    Tokens of text that is never shown, such as a stop string, have no score; neither have those few that were
    taken for a header before the model turned out to have written none.
    """

    def __init__(self, text: AnswerText) -> None:
        self._text = text
        self._waiting: list[TokenScore] = []  # for content that is held back

    def feed(self, answer: Answer) -> list[AnswerDelta]:
        """Raises InternalError when the engine has not scored every token."""
        entries = answer.logprobs
        if len(entries) != len(answer.token_ids):
            raise InternalError("The engine left out log-probabilities.")
        deltas = []
        for token, logprobs in zip(answer.token_ids, entries, strict=True):
            new = self._text.feed((token,))
            if token < FIRST_SPECIAL and self._text.in_content:
                self._waiting.append(TokenScore(token, logprobs))
            deltas += [self._scored(delta) for delta in new]
        return deltas

    def finish(self) -> list[AnswerDelta]:
        return [self._scored(delta) for delta in self._text.finish()]

    def _scored(self, delta: AnswerDelta) -> AnswerDelta:
        if delta.kind != "content" or not self._waiting:
            return delta
        scores, self._waiting = self._waiting, []
        return ScoredDelta(delta.kind, delta.text, scores=scores)
