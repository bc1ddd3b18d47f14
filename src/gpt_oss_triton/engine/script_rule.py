"""One line of a script: which prompts it answers, with which tokens, and how they come."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from gpt_oss_triton.errors import (
    DeadlineExceeded,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    Overloaded,
    ServiceError,
)
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.normalize import prompt_hash
from gpt_oss_triton.options import VOCABULARY

MAX_ANSWER_TOKENS = 131_072
MAX_CHUNK = 1024
_FINAL = "<|channel|>final<|message|>"

Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]
ErrorCode = Literal[
    "internal_error", "engine_unavailable", "overloaded", "deadline_exceeded", "invalid_value"
]

_ERRORS: dict[ErrorCode, type[ServiceError]] = {
    "internal_error": InternalError,
    "engine_unavailable": EngineUnavailable,
    "overloaded": Overloaded,
    "deadline_exceeded": DeadlineExceeded,
    "invalid_value": InvalidRequest,
}


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """As it is written. Of `text`, `token_ids` and `repeat` exactly one is given, and with `refuse` none."""

    # which prompts: all that are given must hold
    prompt_hash: str | None = None  # hex SHA-256 of the ids, as in wire.PromptInfo
    role: str | None = None  # how the last message's header begins: "user", "functions.weather"
    contains: str | None = None  # in the last message's text
    pattern: str | None = None  # a regular expression, searched for there
    anywhere: str | None = None  # in the whole prompt, control tokens written out
    times: Positive | None = None  # prompts it answers, and none after them; None: any number
    # with what
    text: str | None = None  # what follows `<|start|>assistant`; control tokens count as such
    token_ids: list[int] | None = None
    repeat: str | None = None  # a final message of this text, over and over
    tokens: Positive | None = None  # with `repeat`: of the whole answer; None: until the request's limit
    finish_reason: Literal["stop", "length"] = (
        "length"  # where the tokens end and nothing else has ended them
    )
    # how they come
    chunk: tuple[Annotated[int, msgspec.Meta(ge=1, le=MAX_CHUNK)], ...] = (1,)  # tokens at a time, in turn
    first_token_s: Seconds = 0.0
    token_s: Seconds = 0.0
    cached_tokens: Natural = 0  # of the prompt, as it is told; at most all but one
    refuse: ErrorCode | None = None  # at submission
    fail: ErrorCode | None = None  # after `fail_after` tokens
    fail_after: Natural = 0


@dataclass(frozen=True, slots=True)
class Prompt:
    """What rules look at."""

    token_ids: list[int]

    def last_message(self) -> tuple[str, str]:
        """Header and text of the last message that is complete; both empty when there is none."""
        starts = [n for n, token in enumerate(self.token_ids) if token == tokens.START]
        for start, end in reversed(list(itertools.pairwise([*starts, len(self.token_ids)]))):
            message = self.token_ids[start + 1 : end]
            if tokens.MESSAGE in message:
                body = message.index(tokens.MESSAGE)
                text = (token for token in message[body + 1 :] if token < tokens.FIRST_SPECIAL)
                return tokens.decode(message[:body]), tokens.decode(text)
        return "", ""


class Answer:
    """One rule, ready to be given.

    Attributes:
        rule: where it comes from.
        left: prompts that it still answers; None: any number.
    """

    def __init__(self, rule: Rule) -> None:
        """
        Raises:
            ValueError: the rule contradicts itself.
        """
        _check(rule)
        self.rule = rule
        self.left = rule.times
        self._pattern = re.compile(rule.pattern) if rule.pattern is not None else None
        self._written = [] if rule.refuse is not None else _written(rule)

    def fits(self, prompt: Prompt) -> bool:
        rule = self.rule
        if self.left == 0:
            return False
        if rule.prompt_hash is not None and rule.prompt_hash != prompt_hash(prompt.token_ids):
            return False
        if rule.anywhere is not None and rule.anywhere not in tokens.decode(prompt.token_ids):
            return False
        if rule.role is None and rule.contains is None and self._pattern is None:
            return True
        header, text = prompt.last_message()
        return (
            header.startswith(rule.role or "")
            and (rule.contains or "") in text
            and (self._pattern is None or self._pattern.search(text) is not None)
        )

    def token_ids(self) -> Iterator[int]:
        """The answer's tokens; endless for a `repeat` without `tokens`."""
        if self.rule.repeat is None:
            return iter(self._written)
        header = tokens.encoding().encode(_FINAL, allowed_special="all")
        endless = itertools.chain(header, itertools.cycle(self._written))
        if self.rule.tokens is None:
            return endless
        return itertools.chain(itertools.islice(endless, self.rule.tokens - 1), [tokens.RETURN])


def scripted_error(code: ErrorCode) -> ServiceError:
    """What a rule's `refuse` or `fail` stands for."""
    return _ERRORS[code]("The script says so.", retry_after_s=1 if code == "overloaded" else None)


def _check(rule: Rule) -> None:
    given = [kind for kind in (rule.text, rule.token_ids, rule.repeat) if kind is not None]
    if len(given) != (0 if rule.refuse is not None else 1):
        raise ValueError("it needs one of text, token_ids and repeat, and none of them with refuse")
    if rule.tokens is not None and rule.repeat is None:
        raise ValueError("tokens goes with repeat")
    if rule.fail_after and rule.fail is None:
        raise ValueError("fail_after goes with fail")
    if not rule.chunk:
        raise ValueError("chunk is empty")
    try:
        re.compile(rule.pattern or "")
    except re.error as error:
        raise ValueError(f"pattern: {error}") from None


def _written(rule: Rule) -> list[int]:
    """The ids that the rule names; of `repeat` the text once."""
    if rule.repeat is not None:
        ids = tokens.encode_text(rule.repeat)
    elif rule.text is not None:
        ids = tokens.encoding().encode(rule.text, allowed_special="all")
    else:
        ids = rule.token_ids or []
    if not 1 <= len(ids) <= MAX_ANSWER_TOKENS:
        raise ValueError(f"the answer has {len(ids)} tokens; it needs 1 to {MAX_ANSWER_TOKENS}")
    if not 0 <= min(ids) <= max(ids) < VOCABULARY:
        raise ValueError(f"token_ids must lie in 0 … {VOCABULARY - 1}")
    return ids
