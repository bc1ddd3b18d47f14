"""One training in several processes of one machine, with a thread each: between its products a process has much to do
that more threads do not help with.

Parameters, optimizers' states and gradients lie in memory that all share. Each process learns from its share of a
step's samples; then each sums up the gradients of its own part of the parameters, and changes these.
"""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing

from gpt_oss_triton.demo.corpus import Sample


@dataclass(frozen=True, slots=True)
class Team:
    """
    Attributes:
        rank: of this process; the first one reports and saves.
    """

    rank: int
    size: int
    _gradients: torch.Tensor  # [size, elements of all parameters]
    _lines: Sequence[Connection]  # of the first process to each of the others, of these to the first one

    def share(self, samples: Sequence[Sample]) -> list[Sample]:
        """This process's part, about as long as the others'."""
        return sorted(samples, key=lambda sample: len(sample.ids))[self.rank :: self.size]

    def total(self, number: float) -> float:
        """The sum over all processes, each of which calls this with its own, and goes on when all have.

        Raises:
            ChildProcessError: one of them is gone.
        """
        try:
            if self.rank:
                self._lines[0].send(number)
                return float(self._lines[0].recv())
            number += sum(float(line.recv()) for line in self._lines)
            for line in self._lines:
                line.send(number)
        except (EOFError, OSError):
            raise ChildProcessError("a process of the training has ended") from None
        return number

    def exchange(self, parameters: Sequence[torch.nn.Parameter]) -> float:
        """Leave each parameter's whole gradient with the one process that changes it, and none with the others.

        Returns:
            The norm of all gradients.

        Raises:
            ChildProcessError: see `total`.
        """
        parameters = sorted(parameters, key=torch.numel, reverse=True)
        places = torch.split(self._gradients, [p.numel() for p in parameters], dim=1)
        for parameter, place in zip(parameters, places, strict=True):
            place[self.rank] = 0.0 if parameter.grad is None else parameter.grad.flatten()
        self.total(0.0)
        squares = 0.0
        for number, (parameter, place) in enumerate(zip(parameters, places, strict=True)):
            parameter.grad = None
            if number % self.size == self.rank:
                parameter.grad = place.sum(0).view_as(parameter)
                squares += float(parameter.grad.square().sum())
        return math.sqrt(self.total(squares))


class Alone:
    """What a `Team` is to a process that trains without others."""

    rank, size = 0, 1

    def share(self, samples: Sequence[Sample]) -> list[Sample]:
        return list(samples)

    def total(self, number: float) -> float:
        return number

    def exchange(self, parameters: Sequence[torch.nn.Parameter]) -> float:
        return float(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))


@contextlib.contextmanager
def team_of(size: int, elements: int, helper: Callable[..., None], *arguments: Any) -> Iterator[Team]:
    """This process's part in a team; the others run `helper(*arguments, team)`, and their end is waited for.

    Args:
        elements: of all parameters.
        arguments: tensors in them are moved to shared memory.
    """
    context = torch.multiprocessing.get_context("spawn")
    gradients = torch.zeros(size, elements)
    gradients.share_memory_()  # type: ignore[no-untyped-call]
    lines = [context.Pipe() for _ in range(size - 1)]
    teams = [Team(rank, size, gradients, [theirs]) for rank, (_, theirs) in enumerate(lines, 1)]
    others = [context.Process(target=_help, args=(helper, arguments, team)) for team in teams]
    with _deaf():
        for other in others:
            other.start()
    for _, theirs in lines:
        theirs.close()  # so that a line ends with its process
    try:
        yield Team(0, size, gradients, [ours for ours, _ in lines])
    finally:
        for ours, _ in lines:
            ours.close()
        for other in others:
            other.join()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started meanwhile never hear of Ctrl-C or SIGTERM: the first one does, and tells them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _help(helper: Callable[..., None], arguments: tuple[Any, ...], team: Team) -> None:
    torch.set_num_threads(1)
    with contextlib.suppress(ChildProcessError):  # the first one is gone, or has said so
        helper(*arguments, team)
