"""Training: a state on disk that any process can take up where another one left it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.batches import batches
from gpt_oss_triton.demo.corpus import Sample, episode, sample_of
from gpt_oss_triton.demo.corpus.words import FILLING
from gpt_oss_triton.demo.export import Tensors, restore
from gpt_oss_triton.demo.induction import induce
from gpt_oss_triton.demo.lookup import put_in, reads
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.demo.optimizer import Muon
from gpt_oss_triton.demo.renaming import Renaming
from gpt_oss_triton.demo.team import Alone, Team
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.harmony.tokens import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    MESSAGE,
    RETURN,
    START,
    encode_text,
    token_bytes,
)

_CONTROL = (CALL, CHANNEL, CONSTRAIN, END, MESSAGE, RETURN, START)
_SURVEYED = 20_000  # samples that decide which tokens get rows of their own
_OFTEN = 60  # times that a token must occur in them
_AHEAD = 64  # steps whose samples are made before they are needed
_BALANCE = 0.01  # weight of the experts' uneven load in the loss
_ROUNDED = 0.1  # last part of the tokens, with experts rounded to MXFP4; a step takes half as long again
_ALONE = Alone()


@dataclass(frozen=True, slots=True)
class Plan:
    """
    Attributes:
        tokens: how many to train on, prompts counted.
        samples: of one step.
        batch_tokens: computed at once; memory grows with it. What is left out and what is counted beside is drawn for each batch.
        cooling: the last part of the tokens, in which the rates fall to zero.
        look_after: tokens, after which the look of `lookup.put_in` has to be put in.
        looks: whether it is in the model, so that it and what it reads stay as they are.
    """

    seed: int = 1
    tokens: int = 17_000_000
    samples: int = 48
    batch_tokens: int = 16384
    negatives: int = 4096
    matrix_rate: float = 0.007
    rate: float = 1e-3
    warmup: int = 100  # steps
    cooling: float = 0.6
    look_after: int = 4_000_000
    looks: bool = False


class Training:
    """
    Attributes:
        steps, tokens: done so far.
        loss: of the last steps, per learned token.
    """

    def __init__(self, shape: Shape, plan: Plan, own: list[int], device: torch.device) -> None:
        torch.manual_seed(plan.seed)
        self.plan, self.own = plan, own
        self.model = DemoModel(shape, own).to(device)
        matrices = [p for n, p in self.model.named_parameters() if _is_matrix(n)]
        others = [p for n, p in self.model.named_parameters() if not _is_matrix(n)]
        self._muon = Muon(matrices, plan.matrix_rate)
        self._adam = torch.optim.AdamW(others, plan.rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        self.steps = self.tokens = 0
        self.loss = float("nan")
        if plan.looks:
            self._keep()

    @classmethod
    def begin(cls, shape: Shape, plan: Plan, device: torch.device) -> Training:
        training = cls(shape, plan, frequent_tokens(plan.seed), device)
        induce(training.model)
        return training

    @classmethod
    def begin_with(cls, tensors: Tensors, shape: Shape, plan: Plan, device: torch.device) -> Training:
        """With the weights that `export.compact` kept, and optimizers that know nothing yet."""
        training = cls(shape, plan, tensors["vocabulary.own"].tolist(), device)
        restore(training.model, tensors)
        return training

    @classmethod
    def resume(
        cls, path: Path, device: torch.device, tokens: int | None = None, batch_tokens: int | None = None
    ) -> Training:
        """`tokens`, `batch_tokens`: others than planned.

        Raises:
            ConfigurationError: the state is that of another model.
        """
        state = torch.load(path, map_location=device, weights_only=True)
        plan = Plan(**state["plan"])
        plan = replace(plan, tokens=tokens or plan.tokens, batch_tokens=batch_tokens or plan.batch_tokens)
        training = cls(Shape(**state["shape"]), plan, state["own"], device)
        if state["model"].keys() != training.model.state_dict().keys():
            raise ConfigurationError(
                f"{path} was written by another version; begin anew in another directory"
            )
        training.model.load_state_dict(state["model"])
        training._muon.load_state_dict(state["muon"])
        training._adam.load_state_dict(state["adam"])
        training.steps, training.tokens, training.loss = state["steps"], state["tokens"], state["loss"]
        torch.set_rng_state(state["random"].cpu())
        if device.type == "cuda" and state["device_random"] is not None:
            torch.cuda.set_rng_state(state["device_random"].cpu(), device)
        return training

    @property
    def due_for_look(self) -> bool:
        return not self.plan.looks and self.tokens >= self.plan.look_after

    def look_up(self) -> None:
        """Put in the look that training does not find, and leave it and what it reads as they are from now on."""
        put_in(self.model, self.plan.seed)
        self.plan = replace(self.plan, looks=True)
        self._keep()

    def _keep(self) -> None:
        for parameter in reads(self.model):
            parameter.requires_grad_(False)

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which renames words on its own."""
        return {name: value for name, value in self.__dict__.items() if name != "_renaming"}

    @cached_property
    def _renaming(self) -> Renaming:
        return Renaming(self.model.vocabulary)

    @property
    def learned(self) -> list[torch.nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def make_states(self) -> None:
        """Give the optimizers the states that the first step would, so that processes which get this object share them."""
        if self.steps:
            return
        for optimizer in (self._muon, self._adam):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        for state in self._adam.state.values():
            state["step"].zero_()

    def save(self, path: Path) -> None:
        state: dict[str, Any] = {
            "plan": asdict(self.plan), "shape": asdict(self.model.shape), "own": self.own, "model": self.model.state_dict(),
            "muon": self._muon.state_dict(), "adam": self._adam.state_dict(), "steps": self.steps, "tokens": self.tokens,
            "loss": self.loss, "random": torch.get_rng_state(), "device_random": self._device_random(),
        }  # fmt: skip
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)

    def _device_random(self) -> torch.Tensor | None:
        device = self.model.norm.device
        return torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @property
    def done(self) -> bool:
        return self.tokens >= self.plan.tokens

    def step(self, samples: list[Sample], team: Team | Alone = _ALONE) -> None:
        """Learn from these; their number is the plan's. All processes of a `team` call this with the same samples."""
        plan, model = self.plan, self.model
        progress = self.tokens / plan.tokens
        model.quantize(progress >= 1 - _ROUNDED)
        self._set_rates(min(1.0, (self.steps + 1) / plan.warmup, (1 - progress) / plan.cooling))
        mine = team.share(samples)
        parts = list(batches(mine, plan.batch_tokens))
        targets = sum(sum(sample.learned) for sample in samples)
        total = 0.0
        with self._renaming.of(mine):
            for part in parts:
                part = part.to(model.norm.device)
                hidden, load = model(part.tokens, part.groups)
                loss = (
                    model.vocabulary.loss(hidden[part.learned], part.targets, part.tokens, plan.negatives)
                    / targets
                )
                (loss + load * _BALANCE / len(parts) / team.size).backward()
                total += loss.item()
        parameters = self.learned
        norm = torch.tensor(team.exchange(parameters), device=model.norm.device)
        torch.nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
        for optimizer in (self._muon, self._adam):
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        total = team.total(total)
        self.steps += 1
        self.tokens += sum(len(sample.ids) for sample in samples)
        self.loss = total if self.steps == 1 else 0.95 * self.loss + 0.05 * total

    def _set_rates(self, factor: float) -> None:
        for optimizer, rate in ((self._muon, self.plan.matrix_rate), (self._adam, self.plan.rate)):
            for group in optimizer.param_groups:
                group["lr"] = rate * max(factor, 0.01)


def run(
    training: Training, path: Path, stopping: Callable[[], bool], report: Callable[[Training], None], every_s: float,
    makers: Executor | None = None, team: Team | Alone = _ALONE,
) -> None:  # fmt: skip
    """Train to the plan's end, until the look is due or until `stopping`, saving to `path` every `every_s` seconds and at
    the end.

    Args:
        report: called after every step.
        makers: processes that make the samples ahead of the steps; None: this one makes them.
        team: see `help_run`.
    """
    saved = time.monotonic()
    ahead = _Ahead(training.plan, training.steps, makers)
    while _goes_on(training, team, stopping()):
        training.step(ahead.samples(), team)
        report(training)
        if time.monotonic() - saved > every_s:
            training.save(path)
            saved = time.monotonic()
    training.save(path)


def help_run(training: Training, team: Team) -> None:
    """What the other processes of a team do while its first one runs `run`."""
    # What is left out, what is renamed, and what is counted beside a target, is other than in the first process.
    torch.manual_seed(hash((training.plan.seed, training.steps, team.rank)))
    ahead = _Ahead(training.plan, training.steps, None)
    while _goes_on(training, team):
        training.step(ahead.samples(), team)


def _goes_on(training: Training, team: Team | Alone, stop: bool = False) -> bool:
    """`stop`: true in one of the processes ends the run of all."""
    return not (training.done or training.due_for_look or team.total(stop))


class _Ahead:
    """The samples of one step after the other."""

    def __init__(self, plan: Plan, first: int, makers: Executor | None) -> None:
        self._plan, self._step, self._makers = plan, first, makers
        self._made: deque[Future[list[Sample]]] = deque()

    def samples(self) -> list[Sample]:
        step = self._step
        self._step += 1
        if self._makers is None:
            return samples_of_step(self._plan.seed, step, self._plan.samples)
        while len(self._made) < _AHEAD:
            following = step + len(self._made)
            self._made.append(
                self._makers.submit(samples_of_step, self._plan.seed, following, self._plan.samples)
            )
        return self._made.popleft().result()


def samples_of_step(seed: int, step: int, count: int) -> list[Sample]:
    return [sample_of(episode(seed, step * count + n, "train")) for n in range(count)]


def frequent_tokens(seed: int) -> list[int]:
    """Those that the corpus is full of, every number token, and harmony's control tokens."""
    seen: Counter[int] = Counter()
    for index in range(_SURVEYED):
        seen.update(sample_of(episode(seed, index, "train")).ids)
    often = {token for token, times in seen.items() if times >= _OFTEN}
    own = {token for token in often if not _is_for_filling(token)} | set(_CONTROL)
    for number in range(1000):
        for digits in {f"{number}", f"{number:02}", f"{number:03}"}:
            own.update(encode_text(digits))
    return sorted(own)


def _is_for_filling(token: int) -> bool:
    """Whether the corpus fills its sentences with this word: no better known than any word that a user may bring."""
    text = (token_bytes(token) or b"").decode("ascii", errors="replace").lower()
    return text.strip(' _."') in FILLING


def _is_matrix(name: str) -> bool:
    return name.rpartition(".")[2] in {"qkv", "out", "gate_up", "down"}
