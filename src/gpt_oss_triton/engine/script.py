"""A script: the answers that a scripted engine gives, read from a file of JSON lines.

Each line is a `Rule`. The first may instead be `{"engine": {…}}`, see `ScriptOptions`. Rules are tried in the
file's order; one that has answered `times` prompts is passed over, so a file of rules with `"times": 1` answers
in order.

This is the one part of an engine that reads harmony text: of a prompt it sees the last message, and its answers
may be written as text with control tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import msgspec

from gpt_oss_triton.engine.script_rule import Answer, Prompt, Rule, scripted_error
from gpt_oss_triton.errors import ConfigurationError, InvalidRequest

MAX_SCRIPT_BYTES = 64 * 1024 * 1024
MAX_RULES = 10_000


class ScriptOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of the whole script."""

    tokens_per_s: Annotated[float, msgspec.Meta(gt=0)] | None = None  # of all running answers together


class Script:
    """A file's rules. Not thread-safe: `times` counts down.

    Attributes:
        name: the file's.
        options: of the whole.
    """

    def __init__(self, name: str, options: ScriptOptions, answers: list[Answer]) -> None:
        self.name = name
        self.options = options
        self._answers = answers

    @classmethod
    def read(cls, path: Path) -> Self:
        """
        Raises:
            ConfigurationError: it cannot be read, or a line is no rule; names the line.
        """
        lines = _lines(path)
        options, answers = ScriptOptions(), []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                if number == 1 and (given := _options(line)) is not None:
                    options = given
                else:
                    answers.append(Answer(msgspec.json.decode(line, type=Rule)))
            except ValueError as error:  # msgspec's are among them
                raise ConfigurationError(f"{path}, line {number}: {error}.") from None
        if not 1 <= len(answers) <= MAX_RULES:
            raise ConfigurationError(f"{path} has {len(answers)} rules; it needs 1 to {MAX_RULES}.")
        return cls(path.name, options, answers)

    def answer(self, token_ids: list[int]) -> Answer:
        """The first rule that fits a prompt, counted as used.

        Raises:
            InvalidRequest: none does.
            ServiceError: the one that does refuses it.
        """
        prompt = Prompt(token_ids)
        found = next((answer for answer in self._answers if answer.fits(prompt)), None)
        if found is None:
            raise InvalidRequest(f"{self.name} has no answer for this prompt.", param="messages")
        if found.left is not None:
            found.left -= 1
        if found.rule.refuse is not None:
            raise scripted_error(found.rule.refuse)
        return found


def _lines(path: Path) -> list[bytes]:
    try:
        if (size := path.stat().st_size) > MAX_SCRIPT_BYTES:
            raise ConfigurationError(f"{path} has {size} bytes; at most {MAX_SCRIPT_BYTES} are read.")
        return path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"cannot read the script {path}: {error.strerror}.") from None


def _options(line: bytes) -> ScriptOptions | None:
    """Of a first line that is no rule."""
    record = msgspec.json.decode(line)
    if not isinstance(record, dict) or record.keys() != {"engine"}:
        return None
    return msgspec.convert(record["engine"], ScriptOptions)
