"""The supervisor over real processes and real signals; only the services' nature is made up."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import pytest

from gpt_oss_triton.launch import supervisor as supervisor_module
from gpt_oss_triton.launch.backoff import Backoff
from gpt_oss_triton.launch.child import describe_exit
from gpt_oss_triton.launch.signals import Signals
from gpt_oss_triton.launch.supervisor import GaveUp, Supervisor


class Program:
    """A service that is a shell command, ready as soon as it lives. `on_tick` gets the number of ticks."""

    def __init__(self, name: str, command: str, on_tick: Callable[[Program], None] | None = None) -> None:
        self.name, self._command, self._on_tick = name, command, on_tick
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = self.ticks = 0

    def start(self) -> None:
        assert not self.alive()
        self.starts += 1
        self.process = subprocess.Popen(["sh", "-c", f"exec {self._command}"])

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def ready(self) -> bool:
        return self.alive()

    def stuck(self) -> str | None:
        return None

    def progress(self) -> list[str]:
        return []

    def awaits(self) -> str:
        return "nothing in particular"

    def ended(self) -> str:
        return describe_exit(self.process.returncode if self.process else None)

    def log_tail(self) -> list[str]:
        return ["the log of " + self.name]

    def log_place(self) -> str:
        return "no more of it"

    def tick(self) -> None:
        self.ticks += 1
        if self._on_tick:
            self._on_tick(self)

    def abort(self) -> None:
        self.stop(fast=True)

    def stop(self, fast: bool) -> None:
        if self.process is not None:
            self.process.kill() if fast else self.process.terminate()
            self.process.wait()

    def hurry(self) -> None:
        if self.process is not None:
            self.process.kill()


@pytest.fixture
def signals() -> Iterator[Signals]:
    with Signals() as entered:
        yield entered


def ask_to_stop(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


def test_a_stop_ends_in_reverse_order(signals: Signals) -> None:
    order: list[str] = []

    class Recorded(Program):
        def stop(self, fast: bool) -> None:
            order.append(self.name)
            super().stop(fast)

    first, second = Recorded("first", "sleep 60"), Recorded("second", "sleep 60", lambda _: ask_to_stop())
    supervisor = Supervisor([first, second], signals, lambda _: None)
    assert supervisor.start(10)
    supervisor.watch()
    supervisor.stop()
    assert order == ["second", "first"]
    assert (first.starts, second.starts) == (1, 1)
    assert signals.stopping == signal.SIGTERM
    assert not signals.forced


def test_what_dies_is_started_again(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "after", lambda self, life_s, served: 0.0)
    said: list[str] = []

    def die_twice(program: Program) -> None:
        if program.starts == 3:
            ask_to_stop()
        elif program.process is not None:
            program.process.kill()
            program.process.wait()

    dying, other = Program("dying", "sleep 60", die_twice), Program("other", "sleep 60")
    supervisor = Supervisor([other, dying], signals, said.append)
    assert supervisor.start(10)
    supervisor.watch()
    supervisor.stop()
    assert (dying.starts, other.starts) == (3, 1)
    assert sum("dying was ended by SIGKILL; starting it again" in line for line in said) == 2
    assert any(line.startswith("dying is back") for line in said)


def test_what_keeps_dying_is_given_up_with_its_log(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    class Once(Program):
        """Alive until it was found ready, dead ever after."""

        def ready(self) -> bool:
            if self.starts == 1 and self.alive():
                self._command = "false"
                return True
            return False

        def tick(self) -> None:
            assert self.process is not None
            self.process.kill()

    waits: list[float | None] = []
    original = Backoff.after

    def impatient(self: Backoff, life_s: float, *, served: bool) -> float | None:
        waits.append(original(self, life_s, served=served))
        return None if waits[-1] is None else 0.0

    monkeypatch.setattr(Backoff, "after", impatient)
    service = Once("broken", "sleep 60")
    supervisor = Supervisor([service], signals, lambda _: None)
    assert supervisor.start(10)
    with pytest.raises(GaveUp, match=r"(?s)broken .*6 times in a row.*the log of broken"):
        supervisor.watch()
    assert service.starts == 7, "one life that served, and six that did not"
    assert waits[0] is not None
    assert waits[-1] is None


def test_a_service_that_ends_while_starting_is_reported_at_once(signals: Signals) -> None:
    class NeverReady(Program):
        def ready(self) -> bool:
            return False

    supervisor = Supervisor([NeverReady("broken", "sh -c 'exit 7'")], signals, lambda _: None)
    with pytest.raises(GaveUp, match="broken ended with exit status 7"):
        supervisor.start(10)


def test_what_dies_while_a_later_one_starts_is_started_again(
    signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "after", lambda self, life_s, served: 0.0)
    first = Program("first", "sleep 60")

    class Needing(Program):
        """Ends the first one's first life, and is ready when it has another."""

        def ready(self) -> bool:
            assert first.process is not None
            if first.starts == 1:
                first.process.kill()
                first.process.wait()
            return first.starts == 2 and first.alive()

    said: list[str] = []
    supervisor = Supervisor([first, Needing("second", "sleep 60")], signals, said.append)
    assert supervisor.start(10)
    supervisor.stop()
    assert said == ["first was ended by SIGKILL; starting it again in 0.0 s"]


def test_what_keeps_dying_while_a_later_one_starts_is_given_up(
    signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Backoff, "after", lambda self, life_s, served: None)
    first = Program("first", "sleep 60")

    class Killing(Program):
        def ready(self) -> bool:
            first.abort()
            return False

    supervisor = Supervisor([first, Killing("second", "sleep 60")], signals, lambda _: None)
    with pytest.raises(GaveUp, match=r"(?s)first was ended by SIGKILL.*the log of first"):
        supervisor.start(10)
    supervisor.stop()


def test_a_start_that_takes_too_long_is_given_up(signals: Signals) -> None:
    class NeverReady(Program):
        def ready(self) -> bool:
            return False

    service = NeverReady("slow", "sleep 60")
    supervisor = Supervisor([service], signals, lambda _: None)
    with pytest.raises(GaveUp, match="slow is not ready after 0 s"):
        supervisor.start(0.2)
    supervisor.stop()
    assert not service.alive()


def test_a_start_that_cannot_end_is_given_up(signals: Signals) -> None:
    class Stuck(Program):
        def ready(self) -> bool:
            return False

        def stuck(self) -> str | None:
            return "waits for ever"

    service = Stuck("waiting", "sleep 60")
    supervisor = Supervisor([service], signals, lambda _: None)
    with pytest.raises(GaveUp, match=r"(?s)waiting waits for ever.*the log of waiting"):
        supervisor.start(60)
    supervisor.stop()


class OnceReady(Program):
    """Ready in its first life, which its first tick ends; `stuck` in the others, where `why` says so."""

    why: str | None = None

    def ready(self) -> bool:
        return self.starts == 1 and self.alive()

    def stuck(self) -> str | None:
        return self.why if self.starts > 1 else None

    def tick(self) -> None:
        if self.starts == 1 and self.process is not None:
            self.process.kill()
            self.process.wait()


@pytest.mark.parametrize(
    ("why", "timeout_s", "complaint"),
    [("waits for ever", 60, "waits for ever"), (None, 0, "is not ready after 0 s")],
)
def test_a_restart_that_cannot_end_is_tried_again_and_given_up(
    why: str | None, timeout_s: float, complaint: str, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "_TICK_S", 0.01)
    counted = Backoff.after

    def impatient(self: Backoff, life_s: float, *, served: bool) -> float | None:
        return None if counted(self, life_s, served=served) is None else 0.0

    monkeypatch.setattr(Backoff, "after", impatient)
    service = OnceReady("waiting", "sleep 60")
    service.why = why
    supervisor = Supervisor([service], signals, lambda _: None)
    assert supervisor.start(timeout_s)
    with pytest.raises(GaveUp, match=f"waiting {complaint}, 6 times in a row"):
        supervisor.watch()
    assert service.starts == 7, "one life that served, and six that did not"
    assert not service.alive()


def test_a_long_wait_is_not_silent(signals: Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_HEARTBEAT_S", 0.0)
    said: list[str] = []

    class Slow(Program):
        def ready(self) -> bool:
            return bool(said)

    supervisor = Supervisor([Slow("slow", "sleep 60")], signals, said.append)
    assert supervisor.start(60)
    supervisor.stop()
    assert said[0] == "still waiting for slow: nothing in particular"


def test_a_stop_before_the_start_starts_nothing(signals: Signals) -> None:
    ask_to_stop()
    service = Program("never", "sleep 60")
    assert not Supervisor([service], signals, lambda _: None).start(60)
    assert service.starts == 0


def test_a_stop_during_the_start_is_heeded(signals: Signals) -> None:
    class Asking(Program):
        def ready(self) -> bool:
            ask_to_stop(signal.SIGINT)
            return False

    service = Asking("starting", "sleep 60")
    supervisor = Supervisor([service], signals, lambda _: None)
    assert not supervisor.start(60)
    supervisor.stop()
    assert not service.alive()


def test_a_second_signal_ends_a_drain_at_once(signals: Signals) -> None:
    class Draining(Program):
        def stop(self, fast: bool) -> None:
            assert not fast
            ask_to_stop()  # the second one, while the process is waited for
            assert self.process is not None
            self.process.wait()

    service = Draining("draining", "sleep 60", lambda _: ask_to_stop())
    supervisor = Supervisor([service], signals, lambda _: None)
    assert supervisor.start(10)
    supervisor.watch()
    supervisor.stop()
    assert service.process is not None
    assert service.process.returncode == -signal.SIGKILL
    assert signals.forced


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]
    with Signals():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)] == before


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "ended with exit status 0"),
        (-9, "was ended by SIGKILL"),
        (-63, "was ended by signal 63"),
        (None, "is running"),
    ],
)
def test_exits_in_words(returncode: int | None, words: str) -> None:
    assert describe_exit(returncode) == words
