"""How many tokens a request took: usage, metrics, log and trace all say these numbers, and its key is charged with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from gpt_oss_triton.wire import Event, Finished


@dataclass(slots=True)
class TokenCounts:
    """Of one answer, or of all answers to a request. They change as the answer comes.

    Attributes:
        prompt: 0 before anybody has counted them.
        cached: those of the prompt that need not be computed.
        completion: of the answer so far.
        reasoning: those of the answer that were thought; noted at its end by who reads its text.
    """

    prompt: int = 0
    cached: int = 0
    completion: int = 0
    reasoning: int = 0
    _cut: bool = field(default=False, init=False, repr=False, compare=False)

    @classmethod
    def joint(cls, answers: Sequence[TokenCounts], per_prompt: int) -> Self:
        """Of several answers, `per_prompt` to each prompt in turn. A prompt counts once, as the first answer to it that
        ran found it in the cache."""
        whole = cls(
            completion=sum(answer.completion for answer in answers),
            reasoning=sum(answer.reasoning for answer in answers),
        )
        for first in range(0, len(answers), per_prompt):
            ran = [answer for answer in answers[first : first + per_prompt] if answer.prompt]
            whole.prompt += ran[0].prompt if ran else 0
            whole.cached += min((answer.cached for answer in ran), default=0)
        return whole

    def accepted(self, prompt: int, cached: int) -> None:
        """By an engine; not always the first."""
        self.prompt, self.cached = prompt, cached

    def came(self, tokens: int, event: Event | None) -> None:
        """So many more, and what came with them: an answer that breaks has no last word on them."""
        if isinstance(event, Finished):
            self.prompt, self.cached = event.prompt_tokens, event.cached_tokens
        if not self._cut:
            self.completion = (
                event.completion_tokens if isinstance(event, Finished) else self.completion + tokens
            )

    def cut(self, completion: int) -> None:
        """The answer ends after so many tokens, whatever else came or comes of it."""
        self.completion, self._cut = completion, True
