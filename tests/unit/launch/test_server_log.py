"""On lines that Triton 2.51 wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpt_oss_triton.launch.server_log import ServerLog

START = """\
2026-01-05T10:00:00Z E 7 server.cc:241] "CudaDriverHelper has not been initialized."
2026-01-05T10:00:00Z I 7 model_lifecycle.cc:472] "loading: gpt_oss_20b_engine:1"
2026-01-05T10:00:00Z I 7 model_lifecycle.cc:472] "loading: prompt_normalizer:1"
2026-01-05T10:00:02Z I 7 model_lifecycle.cc:839] "successfully loaded 'prompt_normalizer'"
"""
FAILED = """\
2026-01-05T10:00:03Z E 7 model_lifecycle.cc:642] "failed to load 'gpt_oss_20b_engine' version 1: Internal: TritonModelException: no checkpoint: set a variable.\\n\\nAt:\\n  /x/engine_model.py(40): initialize\\n"
2026-01-05T10:00:03Z I 7 model_lifecycle.cc:777] "failed to load 'gpt_oss_20b_engine'"
"""


@pytest.fixture
def log_file(tmp_path: Path) -> Path:
    return tmp_path / "tritonserver.log"


def test_the_cause_is_what_the_model_said_without_the_place(log_file: Path) -> None:
    log_file.write_text(START + FAILED)
    assert ServerLog(log_file).cause() == "gpt_oss_20b_engine: no checkpoint: set a variable."


@pytest.mark.parametrize(
    ("end", "cause"),
    [
        ("error: creating server: Internal - no port\n", "creating server: Internal - no port"),
        ('2026-01-05T10:00:03Z E 7 main.cc:535] "no memory"\n', "no memory"),
    ],
)
def test_without_a_model_at_fault_it_is_the_servers_last_error(log_file: Path, end: str, cause: str) -> None:
    log_file.write_text(START + end)
    assert ServerLog(log_file).cause() == cause


def test_a_log_without_errors_gives_its_last_line(log_file: Path) -> None:
    assert ServerLog(log_file).cause() == "it wrote no log"
    log_file.write_text("Segmentation fault\n\n")
    assert ServerLog(log_file).cause() == "Segmentation fault"


def test_each_step_is_reported_once(log_file: Path) -> None:
    log = ServerLog(log_file)
    assert log.progress() == []
    log_file.write_text(START)
    assert log.progress() == [
        "loading gpt_oss_20b_engine",
        "loading prompt_normalizer",
        "prompt_normalizer is loaded",
    ]
    assert log.progress() == []


def test_an_earlier_life_of_the_server_does_not_count(log_file: Path) -> None:
    log_file.write_text(START + FAILED)
    log = ServerLog(log_file)
    log.begin()
    with log_file.open("a") as file:
        file.write('2026-01-05T10:01:00Z I 8 model_lifecycle.cc:472] "loading: prompt_normalizer:1"\n')
    assert log.progress() == ["loading prompt_normalizer"]
    assert "no checkpoint" not in log.cause()
    assert len(log.tail(20)) == 1
