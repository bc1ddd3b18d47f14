"""The examination: held-out conversations, what is right in each, and the table of the shares."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpt_oss_triton.demo.answers import Answer, Question
from gpt_oss_triton.demo.conformity import conforms
from gpt_oss_triton.demo.corpus import Episode, episode
from gpt_oss_triton.demo.corpus.sample import prompt_of
from gpt_oss_triton.harmony.grammar import ANY_OBJECT, Call, answer_grammar
from gpt_oss_triton.wire import GenerationOptions, ReasoningEffort

MAX_TOKENS = 256  # the longest right answer has about 170
EFFORTS: tuple[ReasoningEffort, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Trial:
    """One answer of a conversation's last turn: to the user, or to a function's result after right calls.

    Attributes:
        strict: whether the functions are offered as `strict` ones, so that a call keeps to their names and schemas.
    """

    episode: Episode
    step: int
    strict: bool = False

    @property
    def wants_call(self) -> bool:
        return self.step < len(self.episode.turns[-1].calls)


@dataclass(frozen=True, slots=True)
class Aim:
    """A line of the table: how many of the trials count for it, and how many of these are right."""

    name: str
    least: float


VALID, FUNCTION, ARGUMENTS = "valid harmony, natural end", "right function", "right arguments"
JSON_VALID, JSON_RIGHT, RESULT = (
    "JSON valid under the grammar",
    "JSON right",
    "answer uses the function's result",
)
_STRANGE, _STRICT = "strange words", "strict functions"
_OF_KIND = {
    "arithmetic": "two-operand arithmetic",
    "facts": "facts of its table",
    "reference": "references to earlier turns",
}
AIMS = (
    Aim(VALID, 0.99),
    Aim(_OF_KIND["arithmetic"], 0.95),
    Aim(_OF_KIND["facts"], 0.98),
    Aim(FUNCTION, 0.95),
    Aim(ARGUMENTS, 0.90),
    Aim(JSON_VALID, 1.0),
    Aim(JSON_RIGHT, 0.85),
    Aim(RESULT, 0.95),
    Aim(_OF_KIND["reference"], 0.85),
)


def lines(trial: Trial) -> tuple[str, ...]:
    """Of the table, all that this trial counts for beside `VALID`."""
    asked = trial.episode
    words = f", {_STRANGE}" if asked.strange else ""
    if trial.strict:
        words = f", {_STRICT}"
    if trial.wants_call:
        return FUNCTION + words, ARGUMENTS + words
    if asked.data is not None:
        return JSON_VALID + words, JSON_RIGHT + words
    if trial.step:
        return (RESULT,)
    return (_OF_KIND.get(asked.kind, asked.kind),)


def trials(seed: int, least: int) -> list[Trial]:
    """Answers of held-out conversations: for every aim `least`, and of everything else what there was by then, at most
    as many. The calls for the aims come a second time, with strict functions."""
    counts: Counter[str] = Counter()
    found: list[Trial] = []
    for index in itertools.count():
        if all(counts[aim.name] >= least for aim in AIMS):
            break
        made = episode(seed, index, "held")
        for step in range(len(made.turns[-1].calls) + 1):
            trial = Trial(made, step)
            if any(counts[name] < least for name in lines(trial)):
                found.append(trial)
                counts.update((VALID, *lines(trial)))
    return found + [replace(one, strict=True) for one in found if FUNCTION in lines(one)]


def at_every_effort(asked: Iterable[Trial]) -> list[Trial]:
    """The same conversations with each effort, for the comparison of how much is thought."""
    return [Trial(replace(one.episode, effort=effort), one.step) for effort in EFFORTS for one in asked]


def question(trial: Trial, temperature: float, seed: int) -> Question:
    wanted = trial.episode.response_format
    grammar = None if wanted is None else answer_grammar(answer=wanted.schema)
    if trial.strict:
        tools = trial.episode.tools
        grammar = answer_grammar([Call(tool.name, tool.parameters or ANY_OBJECT) for tool in tools])
    options = GenerationOptions(max_tokens=MAX_TOKENS, temperature=temperature, seed=seed, grammar=grammar)
    names = frozenset(tool.name for tool in trial.episode.tools)
    return Question(prompt_of(trial.episode, trial.step), names, options)


def verdicts(trial: Trial, answer: Answer) -> dict[str, bool]:
    """For each line of the table that this trial counts for, whether the answer is right."""
    last = trial.episode.turns[-1]
    wanted, data, schema = trial.episode.has, trial.episode.data, trial.episode.response_format
    if trial.wants_call:
        call = last.calls[trial.step]
        name, arguments = answer.call or ("", "")
        right = [name == call.name, name == call.name and _equal(arguments, call.arguments)]
    elif data is not None and schema is not None:
        right = [conforms(_parsed(answer.content), schema.schema), _equal(answer.content, data)]
    else:
        right = [answer.call is None and all(_says(answer.content, words) for words in wanted)]
    found = dict(zip(lines(trial), right, strict=True))
    return found if trial.strict else {VALID: answer.valid, **found}


class Scores:
    """Shares that are right, line by line."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])

    def add(self, found: dict[str, bool]) -> None:
        for name, right in found.items():
            self._counts[name][0] += right
            self._counts[name][1] += 1

    def share(self, name: str) -> tuple[int, int]:
        right, seen = self._counts[name]
        return right, seen

    @property
    def others(self) -> list[str]:
        return sorted(set(self._counts) - {aim.name for aim in AIMS})


def table(columns: Sequence[tuple[str, Scores]]) -> str:
    """Markdown: the aims, then everything else that was examined."""
    lines = [
        "| held-out | aim | " + " | ".join(title for title, _ in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    rows = [(aim.name, f"≥ {aim.least:.0%}" if aim.least < 1 else "100%") for aim in AIMS]
    rows += [(name, "") for name in sorted({other for _, scores in columns for other in scores.others})]
    for name, aim in rows:
        cells = [_cell(*scores.share(name)) for _, scores in columns]
        lines.append(f"| {name} | {aim} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(right: int, seen: int) -> str:
    return f"{right / seen:.1%} of {seen}" if seen else "–"


def _says(text: str, words: str) -> bool:
    """Whether they stand in it as whole words: 17 does not say 7."""
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", text) is not None


def _parsed(text: str) -> object | None:
    try:
        found: object = json.loads(text)
    except ValueError:
        return None
    return found


def _equal(text: str, wanted: dict[str, object]) -> bool:
    found = _parsed(text)
    # Python's 1 == True == 1.0; JSON's texts differ.
    return found == wanted and json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)
