"""Several processes that train one model."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from gpt_oss_triton.demo import train
from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.demo.team import Team, team_of
from gpt_oss_triton.demo.training import Plan, Training, help_run, run, samples_of_step
from tests.unit.demo.conftest import OWN, SMALL

CPU = torch.device("cpu")
PLAN = Plan(tokens=6000, samples=4, batch_tokens=4096, negatives=30_000, warmup=2, cooling=0.5)
STEPS = 3


def _descend(parameters: list[torch.nn.Parameter], team: Team) -> float:
    """Some steps down the same slope, of which each process knows a part. Returns the last gradients' norm."""
    norm = 0.0
    for _ in range(STEPS):
        for number, parameter in enumerate(parameters):
            if number or team.rank:
                parameter.grad = torch.full_like(parameter, float(team.rank + number + 1))
        norm = team.exchange(parameters)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.data -= parameter.grad
                parameter.grad = None
        team.total(0.0)
    return norm


def _fail(team: Team) -> None:
    raise SystemExit(1)


def _tell_and_wait(pid: torch.Tensor, team: Team) -> None:
    pid.fill_(os.getpid())
    team.total(0.0)
    team.total(0.0)


def test_gradients_are_added_up_and_every_parameter_is_changed_by_one_process() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in ((2, 3), (5,), (1,))]
    elements = sum(parameter.numel() for parameter in parameters)
    with team_of(2, elements, _descend, parameters) as team:
        norm = _descend(parameters, team)
        assert team.rank == 0
    slopes = [2.0, 2.0 + 3.0, 3.0 + 4.0]  # the first process has no gradient of the first parameter
    for parameter, slope in zip(parameters, slopes, strict=True):
        assert torch.equal(parameter.data, torch.full_like(parameter, -STEPS * slope))
    assert norm == pytest.approx((6 * 2.0**2 + 5 * 5.0**2 + 7.0**2) ** 0.5)


def test_the_shares_are_all_samples_and_about_as_long() -> None:
    samples = [Sample([0] * length, [True] * length) for length in (9, 1, 4, 7, 2, 8)]
    shares = [
        [len(sample.ids) for sample in Team(rank, 2, torch.empty(0), []).share(samples)] for rank in (0, 1)
    ]
    assert shares == [[1, 4, 8], [2, 7, 9]]


def _trained(processes: int, path: Path) -> Training:
    training = Training(SMALL, PLAN, OWN, CPU)
    training.model.vocabulary.eval()  # every process would leave out other rows

    def enough() -> bool:
        return training.steps == STEPS

    if processes == 1:
        run(training, path, enough, lambda _: None, 1e9)
        return training
    training.make_states()
    elements = sum(parameter.numel() for parameter in training.model.parameters())
    with team_of(processes, elements, help_run, training) as team:
        run(training, path, enough, lambda _: None, 1e9, team=team)
    return training


def test_two_processes_learn_as_one_does_and_one_takes_up_what_they_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms: list[float] = []
    clip = torch.nn.utils.clip_grads_with_norm_

    def noted(parameters: list[torch.nn.Parameter], most: float, norm: torch.Tensor) -> None:
        norms.append(float(norm))
        clip(parameters, most, norm)

    monkeypatch.setattr(torch.nn.utils, "clip_grads_with_norm_", noted)
    one, two = (_trained(processes, tmp_path / f"{processes}.pt") for processes in (1, 2))
    assert (one.steps, one.tokens) == (two.steps, two.tokens)
    # What is counted beside a target is drawn by each, so they are not quite the same.
    assert two.loss == pytest.approx(one.loss, rel=0.02)
    assert norms[STEPS] == pytest.approx(norms[0], rel=0.1)
    begun = Training(SMALL, PLAN, OWN, CPU).model.state_dict()
    for name, value in two.model.state_dict().items():
        assert torch.equal(value, begun[name]) == torch.equal(one.model.state_dict()[name], begun[name]), name
    resumed = Training.resume(tmp_path / "2.pt", CPU)
    resumed.step(samples_of_step(1, resumed.steps, 4))
    assert resumed.steps == STEPS + 1


def _kill_the_other(team: Team, pid: torch.Tensor) -> None:
    team.total(0.0)
    time.sleep(0.2)  # it waits for the second one by now
    os.kill(int(pid), signal.SIGKILL)
    for _ in range(100):  # what it had sent before still counts
        team.total(0.0)


def test_the_first_one_hears_of_it_when_another_is_killed_while_it_waits() -> None:
    pid = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ChildProcessError), team_of(2, 1, _tell_and_wait, pid) as team:
        _kill_the_other(team, pid)


def test_the_first_one_hears_of_it_when_another_fails() -> None:
    with pytest.raises(ChildProcessError), team_of(2, 1, _fail) as team:
        team.total(0.0)


def test_the_others_end_when_the_first_one_fails() -> None:
    parameters = [torch.nn.Parameter(torch.zeros(2))]
    with pytest.raises(ValueError, match="mine"), team_of(2, 2, _descend, parameters):
        raise ValueError("mine")


def test_ctrl_c_reaches_only_the_first_one() -> None:
    pid = torch.zeros(1, dtype=torch.int64)
    with team_of(2, 1, _tell_and_wait, pid) as team:
        team.total(0.0)
        os.kill(int(pid), signal.SIGINT)
        os.kill(int(pid), signal.SIGTERM)
        assert team.total(0.0) == 0.0


@pytest.mark.parametrize(
    "options", ["--processes 0", "--processes 2 --threads 2", "--processes 2 --makers 1", "--processes 2 --device cuda"]
)  # fmt: skip
def test_options_that_do_not_go_together(
    options: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        train.main(["--work", str(tmp_path), *options.split()])
    assert ended.value.code == 2
    assert "--processes" in capsys.readouterr().err.splitlines()[-1]
