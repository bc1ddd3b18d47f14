"""The examination: held-out conversations, what is right in each, and the table of the shares."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from gpt_oss_triton.demo.answers import Answer, Question
from gpt_oss_triton.demo.corpus import Episode, episode
from gpt_oss_triton.demo.corpus.sample import prompt_of
from gpt_oss_triton.harmony.grammar import answer_grammar
from gpt_oss_triton.wire import GenerationOptions, ReasoningEffort

MAX_TOKENS = 200  # the longest right answer has about 120
EFFORTS: tuple[ReasoningEffort, ...] = ("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Trial:
    """One answer of a conversation's last turn: to the user, or to a function's result after right calls."""

    episode: Episode
    step: int

    @property
    def wants_call(self) -> bool:
        return self.step < len(self.episode.turns[-1].calls)


@dataclass(frozen=True, slots=True)
class Aim:
    """A line of the table: how many of the trials count for it, and how many of these are right."""

    name: str
    least: float


AIMS = (
    Aim("valid harmony, natural end", 0.99),
    Aim("two-operand arithmetic", 0.95),
    Aim("facts of its table", 0.98),
    Aim("right function", 0.95),
    Aim("right arguments", 0.90),
    Aim("JSON valid under the grammar", 1.0),
    Aim("JSON right", 0.85),
    Aim("answer uses the function's result", 0.95),
    Aim("references to earlier turns", 0.85),
)
_OF_KIND = {"arithmetic": AIMS[1].name, "facts": AIMS[2].name, "reference": AIMS[8].name}


def trials(seed: int, count: int) -> list[Trial]:
    """Every answer of the first `count` held-out conversations."""
    found = []
    for index in range(count):
        made = episode(seed, index, "held")
        found += [Trial(made, step) for step in range(len(made.turns[-1].calls) + 1)]
    return found


def at_every_effort(asked: Iterable[Trial]) -> list[Trial]:
    """The same conversations with each effort, for the comparison of how much is thought."""
    return [Trial(replace(one.episode, effort=effort), one.step) for effort in EFFORTS for one in asked]


def question(trial: Trial, temperature: float, seed: int) -> Question:
    wanted = trial.episode.response_format
    grammar = None if wanted is None else answer_grammar(answer=wanted.schema)
    options = GenerationOptions(max_tokens=MAX_TOKENS, temperature=temperature, seed=seed, grammar=grammar)
    names = frozenset(tool.name for tool in trial.episode.tools)
    return Question(prompt_of(trial.episode, trial.step), names, options)


def verdicts(trial: Trial, answer: Answer) -> dict[str, bool]:
    """For each line of the table that this trial counts for, whether the answer is right."""
    found = {AIMS[0].name: answer.valid}
    if trial.wants_call:
        wanted = trial.episode.turns[-1].calls[trial.step]
        right = answer.call is not None and answer.call[0] == wanted.name
        found[AIMS[3].name] = right
        found[AIMS[4].name] = right and answer.call is not None and _equal(answer.call[1], wanted.arguments)
        return found
    said_right = answer.call is None and all(words in answer.content for words in trial.episode.has)
    if trial.episode.data is not None:
        found[AIMS[5].name] = _parsed(answer.content) is not None
        found[AIMS[6].name] = _equal(answer.content, trial.episode.data)
    elif trial.step:
        found[AIMS[7].name] = said_right
    else:
        found[_OF_KIND.get(trial.episode.kind, trial.episode.kind)] = said_right
    return found


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
