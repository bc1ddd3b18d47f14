"""The examination's verdicts, its table, and that it runs against a real engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpt_oss_triton.demo import evaluate
from gpt_oss_triton.demo.answers import Answer, read
from gpt_oss_triton.demo.corpus import Call, Episode, Turn
from gpt_oss_triton.demo.evaluation import AIMS, Scores, Trial, table, trials, verdicts
from gpt_oss_triton.harmony.tokens import encode_marked

CALL = Trial(
    Episode(
        "call",
        (Turn("Book it", "t", "It is 7.", (Call("t", "book", {"n": 1}, '{"seat":7}'),)),),
        "low",
        has=("7",),
    ),
    0,
)
RESULT = replace(CALL, step=1)
SUM = Trial(Episode("arithmetic", (Turn("1 + 1", "t", "1 + 1 = 2."),), "low", has=("2",)), 0)
JSON = Trial(Episode("extraction", (Turn("n 1", "t", '{"n":1}'),), "low", data={"n": 1}), 0)


def answer(content: str = "", call: tuple[str, str] | None = None, *, valid: bool = True) -> Answer:
    return Answer(valid, content, call, 5)


@pytest.mark.parametrize(
    ("trial", "given", "right"),
    [
        (CALL, answer(call=("book", '{ "n": 1 }')), [True, True, True]),
        (CALL, answer(call=("book", '{"n": true}')), [True, True, False]),
        (CALL, answer(call=("cook", '{"n": 1}')), [True, False, False]),
        (CALL, answer("It is 7.", valid=False), [False, False, False]),
        (RESULT, answer("Seat 7."), [True, True]),
        (RESULT, answer("Seat 8."), [True, False]),
        (RESULT, answer("Seat 7.", call=("book", "{}")), [True, False]),
        (SUM, answer("It is 2"), [True, True]),
        (JSON, answer('{"n": 1}'), [True, True, True]),
        (JSON, answer('{"n": 1.0}'), [True, True, False]),
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


def test_the_table_has_every_aim_and_what_else_there_was() -> None:
    scores = Scores()
    scores.add(verdicts(SUM, answer("2")))
    scores.add({"talk": False})
    lines = table([("greedy", scores)]).splitlines()
    assert len(lines) == 2 + len(AIMS) + 1
    assert lines[0] == "| held-out | aim | greedy |"
    assert "| two-operand arithmetic | ≥ 95% | 100.0% of 1 |" in lines
    assert lines[-1] == "| talk |  | 0.0% of 1 |"


def test_every_answer_of_a_conversation_is_a_trial() -> None:
    found = trials(1, 60)
    assert sum(trial.wants_call for trial in found) > 10
    assert len({id(trial.episode) for trial in found}) == 60


def test_the_command_examines_a_checkpoint(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--checkpoint", str(exported), "--count", "2", "--temperature", "0", "--threads", "1"]
    assert evaluate.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "| valid harmony, natural end | ≥ 99% | 0.0% of" in printed
    assert "Analysis, tokens on average: low" in printed
