"""The examination's verdicts, its table, and that it runs against a real engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.demo import evaluate
from gpt_oss_triton.demo.answers import Answer, Question, ask, read
from gpt_oss_triton.demo.corpus import Call, Episode, Turn
from gpt_oss_triton.demo.evaluation import (
    AIMS,
    FUNCTION,
    Scores,
    Trial,
    lines,
    question,
    table,
    trials,
    verdicts,
)
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.harmony.tokens import encode_marked
from gpt_oss_triton.wire import GenerationOptions, ResponseFormat

CALL = Trial(
    Episode(
        "call",
        (Turn("Book it", "t", "It is 7.", (Call("t", "book", {"n": 1}, '{"seat":7}', "seat"),)),),
        "low",
        has=("7",),
    ),
    0,
)
RESULT = replace(CALL, step=1)
SUM = Trial(Episode("arithmetic", (Turn("1 + 1", "t", "1 + 1 = 2."),), "low", has=("2",)), 0)
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
JSON = Trial(
    Episode(
        "extraction",
        (Turn("n 1", "t", '{"n":1}'),),
        "low",
        data={"n": 1},
        response_format=ResponseFormat("n", SCHEMA),
    ),
    0,
)


def answer(content: str = "", call: tuple[str, str] | None = None, *, valid: bool = True) -> Answer:
    return Answer(valid, content, call, 5)


@pytest.mark.parametrize(
    ("trial", "given", "right"),
    [
        (CALL, answer(call=("book", '{ "n": 1 }')), [True, True, True]),
        (CALL, answer(call=("book", '{"n": true}')), [True, True, False]),
        (CALL, answer(call=("cook", '{"n": 1}')), [True, False, False]),
        (CALL, answer("It is 7.", valid=False), [False, False, False]),
        (replace(CALL, strict=True), answer(call=("book", '{"n": 2}')), [True, False]),
        (RESULT, answer("Seat 7."), [True, True]),
        (RESULT, answer("Seat 8."), [True, False]),
        (RESULT, answer("Seat 7.", call=("book", "{}")), [True, False]),
        (SUM, answer("It is 2"), [True, True]),
        (JSON, answer('{"n": 1}'), [True, True, True]),
        (JSON, answer('{"n": 2}'), [True, True, False]),
        (JSON, answer('{"n": 1.0}'), [True, False, False]),
        (JSON, answer('{"n": '), [True, False, False]),
    ],
)
def test_verdicts(trial: Trial, given: Answer, right: list[bool]) -> None:
    assert list(verdicts(trial, given).values()) == right


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", True),
        ("<|channel|>final<|message|>b<|return|>", True),
        ("<|channel|>commentary to=functions.f <|constrain|>json<|message|>{}<|call|>", True),
        ("<|channel|>final<|message|>cut of", False),
        ("<|channel|>analysis<|message|>only thought<|return|>", False),
        ("words<|return|>", False),
        ("<|channel|>final<|message|>b<|end|>again<|return|>", False),
    ],
)  # fmt: skip
def test_what_counts_as_valid(text: str, valid: bool) -> None:
    assert read(encode_marked(text), ()).valid is valid


def test_every_question_is_asked_and_answered_once(exported: Path) -> None:
    settings = EngineSettings(max_context=64, kv_cache_gib=0.01, max_sequences=32, max_waiting=32, threads=1)
    engine = NativeEngine.from_settings(settings, exported)
    try:
        options = GenerationOptions(max_tokens=1)
        places = [place for place, _ in ask(engine, [Question([1, 2, 3], frozenset(), options)] * 70)]
    finally:
        engine.close()
    assert sorted(places) == list(range(70))


def test_the_table_has_every_aim_and_what_else_there_was() -> None:
    scores = Scores()
    scores.add(verdicts(SUM, answer("2")))
    scores.add({"talk": False})
    rows = table([("greedy", scores)]).splitlines()
    assert len(rows) == 2 + len(AIMS) + 1
    assert rows[0] == "| held-out | aim | greedy |"
    assert "| two-operand arithmetic | ≥ 95% | 100.0% of 1 |" in rows
    assert rows[-1] == "| talk |  | 0.0% of 1 |"


@pytest.fixture(scope="module")
def few() -> list[Trial]:
    return trials(1, 5)


def test_every_aim_has_enough_trials_and_nothing_too_many(few: list[Trial]) -> None:
    counts = Counter(name for trial in few for name in lines(trial))
    assert {aim.name for aim in AIMS[1:]} <= counts.keys()
    assert all(counts[aim.name] >= 5 for aim in AIMS[1:])
    assert max(counts.values()) == 5


def test_a_verdict_names_the_lines_that_a_trial_counts_for(few: list[Trial]) -> None:
    for trial in few:
        names = lines(trial) if trial.strict else (AIMS[0].name, *lines(trial))
        assert tuple(verdicts(trial, answer("nothing"))) == names


def test_calls_are_asked_for_a_second_time_with_strict_functions(few: list[Trial]) -> None:
    strict = [trial for trial in few if trial.strict]
    assert [replace(trial, strict=False) for trial in strict] == [
        one for one in few if FUNCTION in lines(one)
    ]
    for trial in strict:
        grammar = question(trial, 0.0, 0).options.grammar
        assert grammar is not None
        assert all(f'"{tool.name} "' in grammar for tool in trial.episode.tools)
        assert question(replace(trial, strict=False), 0.0, 0).options.grammar is None


def test_the_command_examines_a_checkpoint(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--checkpoint", str(exported), "--least", "1", "--temperature", "0", "--threads", "1"]
    assert evaluate.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| valid harmony, natural end | ≥ 99% | 0.0% of" in printed
    assert "Tokens of analysis on average: low" in printed
