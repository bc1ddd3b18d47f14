"""Benchmarks that find nothing to measure end with a line, not with a stack trace."""

from __future__ import annotations

import pytest

from gpt_oss_triton.bench.__main__ import main
from gpt_oss_triton.demo.evaluate import main as evaluate


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("engine --checkpoint /nowhere", "error: /nowhere/config.json does not exist"),
        ("growth --checkpoint /nowhere", "error: /nowhere/config.json does not exist"),
        ("overload --flood 2 --keys /nowhere", "error: [Errno 2] No such file or directory: '/nowhere'"),
        (
            "http --url http://127.0.0.1:9/v1",
            "error: no answer from http://127.0.0.1:9/v1: ConnectionRefused",
        ),
    ],
)
def test_a_benchmark_says_what_is_missing(arguments: str, why: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())
    assert str(ended.value).startswith(why)


def test_an_examination_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(["--checkpoint", "/nowhere"]) == 1
    assert capsys.readouterr().err.startswith("error: /nowhere/config.json does not exist")
