"""Ranks that go away, hang or never come: requests fail with a reason, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpt_oss_triton.engine.parallel import lead
from gpt_oss_triton.engine.protocol import NewTokens, SequenceFailed
from gpt_oss_triton.errors import ConfigurationError, EngineUnavailable
from tests.integration.parallel.conftest import MODES, workers
from tests.unit.engine.conftest import SETTINGS, Call

TENSOR = MODES[0]


def wait_until(condition, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def is_gone(pid):
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode["gpu_mode"])
def test_a_killed_worker_fails_the_running_requests(started, mode):
    engine = started(**mode)
    calls = [Call(engine, [n, n + 1], max_tokens=900) for n in range(2)]
    for call in calls:
        call.until(NewTokens)
    os.kill(workers(engine)[-1], signal.SIGKILL)
    for call in calls:
        end = call.end()
        assert isinstance(end, SequenceFailed)
        assert isinstance(end.error, EngineUnavailable)
        assert f"rank {mode['parallel_ranks'] - 1} of the model: the process was ended by SIGKILL" in str(
            end.error
        )
    with pytest.raises(EngineUnavailable, match="SIGKILL"):
        engine.load()
    with pytest.raises(EngineUnavailable, match="SIGKILL"):
        Call(engine, [1])


def test_a_worker_that_dies_while_nothing_runs_is_missed_at_once(started):
    engine = started(**TENSOR)
    os.kill(workers(engine)[0], signal.SIGKILL)

    def reported():
        try:
            engine.load()
        except EngineUnavailable as error:
            return "SIGKILL" in str(error)
        return False

    wait_until(reported)
    call = Call(engine, [1])
    assert isinstance(call.end(), SequenceFailed)


def test_a_worker_that_hangs_is_given_up(started, monkeypatch):
    monkeypatch.setattr(lead, "EXCHANGE_S", 3.0)
    engine = started(**TENSOR)
    call = Call(engine, [1, 2], max_tokens=900)
    call.until(NewTokens)
    pid = workers(engine)[0]
    os.kill(pid, signal.SIGSTOP)
    end = call.end()
    assert isinstance(end, SequenceFailed)
    assert isinstance(end.error, EngineUnavailable)
    engine.close()
    engine._runner.close()
    assert is_gone(pid)


def test_closing_ends_the_workers(started):
    engine = started(**TENSOR)
    pids = workers(engine)
    engine.close()
    engine._runner.close()
    assert all(is_gone(pid) for pid in pids)


def test_workers_do_not_outlive_a_killed_rank_0(checkpoint):
    script = f"""
import pathlib, time
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.runner import Runner
settings = EngineSettings(**{ {**SETTINGS, "device": "cpu", **MODES[1]}!r})
runner = Runner.from_checkpoint(pathlib.Path({str(checkpoint("fp32"))!r}), settings)
print(*[process.pid for process in runner._executor._team._processes], flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2
        process.kill()
        wait_until(lambda: all(is_gone(pid) for pid in pids))


def test_a_worker_that_cannot_load_says_why(started, checkpoint, monkeypatch):
    """The checkpoint that rank 1 looks for is not there."""
    made = lead._starts

    def elsewhere(*args):
        import msgspec

        return [msgspec.structs.replace(start, checkpoint="/nowhere") for start in made(*args)]

    monkeypatch.setattr(lead, "_starts", elsewhere)
    with pytest.raises(ConfigurationError, match=r"rank 1: /nowhere/config.json does not exist"):
        started(**TENSOR)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gpu_mode": "tensor"}, "parallel_ranks says how many"),
        ({"gpu_mode": "tensor", "parallel_ranks": 3}, "2 KV heads and 8 experts into 3"),
        ({"gpu_mode": "pipeline", "parallel_ranks": 5}, "4 layers into 5"),
    ],
)
def test_what_cannot_be_cut_is_refused(started, settings, words):
    with pytest.raises(ConfigurationError, match=words):
        started(**settings)
