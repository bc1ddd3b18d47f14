"""Token ids into the parts of an OpenAI answer: the one path for streamed and unstreamed replies.

`fold` yields text deltas and, last, the `Ending`. A streamed reply encodes each part as it comes;
`gather` makes one object of the same parts.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from frontend.triton import Answer
from gpt_oss_triton.errors import InternalError
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.wire import Finished


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens. `reasoning_tokens` are a part of `completion_tokens`, `cached_tokens` of `prompt_tokens`."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    reasoning_tokens: int


@dataclass(frozen=True, slots=True)
class Ending:
    """Attributes:
    token_ids: the whole answer's, control tokens included; None where nobody asked.
    """

    finish_reason: Literal["stop", "length"]
    usage: Usage
    token_ids: list[int] | None = None


async def fold(
    answers: AsyncIterable[Answer],
    text: AnswerText,
    *,
    include_reasoning: bool,
    return_token_ids: bool = False,
) -> AsyncIterator[AnswerDelta | Ending]:
    """The parts of one answer, in order; the last one is the `Ending`.

    Raises:
        ServiceError: from `answers`.
    """
    token_ids: list[int] = []
    async for answer in answers:
        if return_token_ids:
            token_ids += answer.token_ids
        for delta in text.feed(answer.token_ids):
            if include_reasoning or delta.kind != "reasoning":
                yield delta
        if isinstance(answer.event, Finished):
            for delta in text.finish():
                if include_reasoning or delta.kind != "reasoning":
                    yield delta
            yield _ending(answer.event, text.reasoning_tokens, token_ids if return_token_ids else None)


def _ending(finished: Finished, reasoning_tokens: int, token_ids: list[int] | None) -> Ending:
    usage = Usage(
        finished.prompt_tokens, finished.completion_tokens, finished.cached_tokens, reasoning_tokens
    )
    return Ending("length" if finished.finish_reason == "length" else "stop", usage, token_ids)


@dataclass(slots=True)
class Completion:
    """The text deltas of one answer, gathered."""

    reasoning: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)

    def add(self, delta: AnswerDelta) -> None:
        (self.reasoning if delta.kind == "reasoning" else self.content).append(delta.text)


async def gather(parts: AsyncIterable[AnswerDelta | Ending]) -> tuple[Completion, Ending]:
    """Everything `fold` yields, as one.

    Raises:
        InternalError: the parts have no ending.
        ServiceError: from `parts`.
    """
    completion = Completion()
    ending: Ending | None = None
    async for part in parts:
        if isinstance(part, Ending):
            ending = part
        else:
            completion.add(part)
    if ending is None:
        raise InternalError("The answer has no end.")
    return completion, ending
