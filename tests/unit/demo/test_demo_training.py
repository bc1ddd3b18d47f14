"""Rounding, the optimizer, and a training that is taken up again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gpt_oss_triton.demo.batches import batches
from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.demo.forced import exact_shares
from gpt_oss_triton.demo.lookup import reads
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.demo.optimizer import orthogonal
from gpt_oss_triton.demo.quantization import rounded
from gpt_oss_triton.demo.train import train
from gpt_oss_triton.demo.training import Plan, Training, run, samples_of_step
from gpt_oss_triton.harmony.tokens import END
from gpt_oss_triton.kernels import mxfp4
from tests.unit.demo.conftest import OWN, SMALL

PLAN = Plan(tokens=6000, samples=4, batch_tokens=512, negatives=64, warmup=2, cooling=0.5)
CPU = torch.device("cpu")


def test_rounding_gives_what_mxfp4_holds_and_passes_the_gradient() -> None:
    weight = torch.randn(3, 8, 64) * torch.logspace(-6, 3, 8).view(1, 8, 1)
    weight[0, 0, :32] = 0.0
    weight.requires_grad_()
    held = rounded(weight)
    torch.testing.assert_close(
        held, mxfp4.dequantize(*mxfp4.quantize(weight.detach()), torch.float32), rtol=0, atol=0
    )
    held.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@pytest.mark.parametrize("shape", [(2, 16, 48), (48, 16)])
def test_an_update_is_nearly_orthogonal(shape: tuple[int, ...]) -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape) * 1e-3))
    assert values.min() > 0.5
    assert values.max() < 1.5


def _sample(system: int, prompt: int, answer: int = 3) -> Sample:
    ids = [*range(system, system + 40), END, *range(1, prompt + answer + 1)]
    return Sample(ids, [False] * (len(ids) - answer) + [True] * answer)


def test_batches_hold_every_sample_once_and_what_they_share_is_held_once() -> None:
    samples = [_sample(1000 if n % 2 else 2000, n) for n in (9, 70, 33, 5, 64, 71, 8)]
    made = list(batches(samples, 300))
    assert len(made) > 1
    members = [place for batch in made for group in batch.groups for place in group.members]
    assert sorted(members) == list(range(len(samples)))
    assert any(group.shared == 32 and len(group.members) > 1 for batch in made for group in batch.groups)
    for batch in made:
        assert len(batch.tokens) <= 512, "300 or one group, and padding"
        tokens, learned, targets = batch.tokens.tolist(), batch.learned.tolist(), batch.targets.tolist()
        first = 0
        for group in batch.groups:
            shared = tokens[first : first + group.shared]
            assert not any(learned[first : first + group.shared])
            first += group.shared
            for place in group.members:
                ids = samples[place].ids
                count = len(ids) - 1 - group.shared
                assert shared + tokens[first : first + count] == ids[:-1]
                wanted = [n for n in range(group.length) if learned[first + n]]
                assert wanted == [count - 3, count - 2, count - 1]
                assert [targets.pop(0) for _ in wanted] == ids[-3:]
                first += group.length
        assert not targets
        assert not any(learned[first:])


def test_the_loss_is_that_of_the_whole_vocabulary_when_nothing_is_left_out(model: DemoModel) -> None:
    vocabulary = model.vocabulary
    hidden = torch.randn(3, SMALL.hidden)
    targets = torch.tensor([OWN[0], int(vocabulary.rare[5]), OWN[3]])
    rows = vocabulary.rows(0, len(vocabulary.place))[1]
    exact = torch.nn.functional.cross_entropy(hidden @ rows.T, targets, reduction="sum")
    torch.manual_seed(0)
    estimates = torch.stack([vocabulary.loss(hidden, targets, targets, 20_000) for _ in range(8)])
    torch.testing.assert_close(estimates.mean(), exact, rtol=0.02, atol=0.0)


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = Training(SMALL, PLAN, OWN, CPU)
    run(whole, tmp_path / "whole.pt", lambda: False, lambda _: None, 1e9)
    first = Training(SMALL, PLAN, OWN, CPU)
    run(first, tmp_path / "state.pt", lambda: first.steps >= 3, lambda _: None, 1e9)
    assert not first.done
    second = Training.resume(tmp_path / "state.pt", CPU)
    run(second, tmp_path / "state.pt", lambda: False, lambda _: None, 1e9)
    assert second.done
    assert second.steps == whole.steps > 4
    assert second.loss == whole.loss
    for one, other in zip(second.model.parameters(), whole.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_stops_where_its_look_is_due_and_goes_on_with_it(tmp_path: Path) -> None:
    training = Training(SMALL, replace(PLAN, look_after=2000), OWN, CPU)
    run(training, tmp_path / "state.pt", lambda: False, lambda _: None, 1e9)
    assert 2000 <= training.tokens < PLAN.tokens
    again = Training.resume(tmp_path / "state.pt", CPU)
    assert again.due_for_look
    steps = again.steps
    run(again, tmp_path / "state.pt", lambda: False, lambda _: None, 1e9)
    assert again.steps == steps, "nothing is learned before it has been put in"
    again.plan = replace(again.plan, looks=True)
    run(again, tmp_path / "state.pt", lambda: False, lambda _: None, 1e9)
    assert again.done


@pytest.mark.parametrize("processes", [1, 2])
def test_the_look_is_put_in_once_on_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    put: list[int] = []
    threads = torch.get_num_threads()
    training = Training(SMALL, replace(PLAN, look_after=2000), OWN, CPU)
    monkeypatch.setattr(
        "gpt_oss_triton.demo.training.put_in", lambda model, seed: put.append(training.tokens)
    )
    kept = []
    train(
        training, tmp_path / "state.pt", lambda: False,
        lambda now: kept.append([one.clone() for one in reads(now.model)]) if now.plan.looks else None,
        1e9, processes=processes,
    )  # fmt: skip
    torch.set_num_threads(threads)
    assert training.done
    assert len(put) == 1
    assert 2000 <= put[0] < PLAN.tokens
    assert len(kept) > 1
    assert all(torch.equal(one, other) for one, other in zip(kept[0], kept[-1], strict=True))
    assert Training.resume(tmp_path / "state.pt", CPU).plan.looks


def test_what_the_look_reads_stays_and_all_else_is_learned() -> None:
    training = Training(SMALL, replace(PLAN, looks=True), OWN, CPU)
    before = {name: parameter.clone() for name, parameter in training.model.named_parameters()}
    kept = {id(parameter) for parameter in reads(training.model)}
    training.step(samples_of_step(1, 0, 4))
    for name, parameter in training.model.named_parameters():
        assert torch.equal(parameter, before[name]) == (id(parameter) in kept), name


def test_it_learns_and_is_examined(tmp_path: Path) -> None:
    training = Training(SMALL, PLAN, OWN, CPU)
    losses = []
    samples = samples_of_step(1, 0, 4)
    for _ in range(16):
        training.step(samples)
        losses.append(training.loss)
    assert losses[-1] < losses[0] - 0.25
    shares = exact_shares(training.model, seed=3, count=4, max_tokens=512)
    assert sum(seen for _, seen in shares.values()) == 4
    assert training.model.training
    random = torch.get_rng_state()
    assert exact_shares(training.model, seed=3, count=4, max_tokens=512) == shares
    assert torch.equal(torch.get_rng_state(), random), "an examination changes what is learned next"
