"""The worker processes of an engine that spreads over several devices, as its own process sees them.

A worker ends when its standard input does, and that is when this process closes it or is gone, however it went.
When a worker ends, its channel does: then nothing can run any more, and every call says why.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TypeVar

import torch

from gpt_oss_triton.engine.parallel.messages import Channel, Failed, Gone, Message, Start, encode
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch.child import describe_exit

log = logging.getLogger(__name__)

END_S = 5.0  # for a worker to end after its input has
REASON_S = 1.0  # for the reason of a failed exchange to come in

M = TypeVar("M")


class WorkerLost(torch.AcceleratorError):
    """A rank of the engine is gone or out of step: as with a failed device, nothing can run any more."""


class Team:
    """Rank 0's hold on the other ranks. Used by one thread, and watched by another.

    Attributes:
        lost: why nothing can run any more, None while all is well.
    """

    def __init__(self, starts: list[Start]) -> None:
        """Start a worker process for each."""
        self.lost: str | None = None
        self._loss = threading.Event()
        self._closing = False
        self._on_loss: Callable[[], None] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._channels: list[Channel] = []
        self._end = weakref.finalize(self, _end, self._processes, self._channels)
        for start in starts:
            process, connection = _spawn()
            self._processes.append(process)
            self._channels.append(Channel(connection))
            self.tell(start, rank=start.rank)

    def hear(self, kind: type[M]) -> list[M]:
        """The next message of every worker, while it starts.

        Raises:
            ConfigurationError: one of them failed; says why.
        """
        heard: list[M] = []
        for rank in range(1, len(self._channels) + 1):
            message = self._receive(rank)
            if not isinstance(message, kind):
                reason = message.reason if isinstance(message, Failed) else f"it said {message}"
                raise ConfigurationError(f"rank {rank}: {reason}")
            heard.append(message)
        return heard

    def watch(self, on_loss: Callable[[], None]) -> None:
        """From now on workers are silent. When one is not, or is gone, `on_loss` is called on another thread."""
        self._on_loss = on_loss
        threading.Thread(
            target=_watch, args=(weakref.ref(self), self._channels), name="ranks", daemon=True
        ).start()

    def tell(self, message: Message, rank: int | None = None) -> None:
        """To this worker, or to all.

        Raises:
            WorkerLost: one does not listen any more.
        """
        encoded = encode(message)
        for channel in self._channels if rank is None else [self._channels[rank - 1]]:
            try:
                channel.send_encoded(encoded)
            except Gone:
                raise self._lost() from None

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """What fails within leaves the others in the middle of something: the team is lost."""
        try:
            yield
        except WorkerLost:
            raise
        except Exception as error:  # process boundary: whatever it was, the ranks are out of step
            raise self._lost(error) from error

    def close(self) -> None:
        """End the workers."""
        self._closing = True
        self._end()

    def note_loss(self, rank: int) -> None:
        """This worker's channel has something to say: its last words, or that it is gone."""
        message = self._receive(rank)
        reason = message.reason if isinstance(message, Failed) else f"it said {message}"
        if not self._closing:
            self.lost = self.lost or f"rank {rank} of the model: {reason}"
            log.error("%s", self.lost)
            if self._on_loss is not None:
                self._on_loss()
        self._loss.set()

    def _receive(self, rank: int) -> Message:
        try:
            return self._channels[rank - 1].receive()
        except Gone:
            return Failed(f"the process {_ended(self._processes[rank - 1])}")

    def _lost(self, error: Exception | None = None) -> WorkerLost:
        # A broken exchange tells less than the worker's last words, which are on their way.
        if not self._loss.wait(REASON_S):
            what = "a worker process does not answer" if error is None else f"{type(error).__name__}: {error}"
            self.lost = self.lost or what.splitlines()[0]
        return WorkerLost(self.lost or "the engine is closed")


def _spawn() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - this Python and a constant module
            [_python(), "-m", "gpt_oss_triton.engine.parallel.worker", str(theirs.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # it logs to standard error, which is ours
            pass_fds=(theirs.fileno(),),
        )
    return process, ours


def _python() -> str:
    """Of this environment; inside Triton's stub, `sys.executable` may be none."""
    if Path(sys.executable or "").name.startswith("python"):
        return sys.executable
    return str(Path(sys.prefix) / "bin" / "python3")


def _watch(team: weakref.ref[Team], channels: list[Channel]) -> None:
    connections = [channel.connection for channel in channels]
    try:
        ready = wait(connections)
    except OSError:  # closed under our hands
        return
    if (found := team()) is not None:
        found.note_loss(connections.index(ready[0]) + 1)  # type: ignore[arg-type]


def _end(processes: list[subprocess.Popen[bytes]], channels: list[Channel]) -> None:
    for process in processes:
        if process.stdin is not None:
            process.stdin.close()
    for process in processes:
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for channel in channels:
        channel.close()


def _ended(process: subprocess.Popen[bytes]) -> str:
    try:
        return describe_exit(process.wait(END_S))
    except subprocess.TimeoutExpired:
        return "closed its channel"
