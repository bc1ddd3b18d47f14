"""A long-running part of the server, as the supervisor sees it."""

from __future__ import annotations

from typing import Protocol


class Service(Protocol):
    """One process that can be started again after it ended."""

    @property
    def name(self) -> str: ...

    def start(self) -> None:
        """Start it and return at once. Called again only after `alive` became False."""

    def alive(self) -> bool: ...

    def ready(self) -> bool:
        """Whether it serves. May take as long as one local HTTP request."""

    def stuck(self) -> str | None:
        """Why it will never be ready although it lives, where that can be told; goes on after its name."""

    def progress(self) -> list[str]:
        """What it has done since the last call, in lines for people."""

    def awaits(self) -> str:
        """What keeps it from being ready, as far as it is easily told. May take one local HTTP request."""

    def ended(self) -> str:
        """How and, where its log tells, why it ended: one line that goes on after its name."""

    def log_tail(self) -> list[str]:
        """The last lines of its log, where it has one of its own."""

    def log_place(self) -> str:
        """Where to read more, as a sentence."""

    def tick(self) -> None:
        """Called two to ten times a second while it should be running."""

    def abort(self) -> None:
        """End it at once, to be started again; returns when it has ended."""

    def stop(self, fast: bool) -> None:
        """End it, in good order unless `fast`; returns when it has ended."""

    def hurry(self) -> None:
        """End it sooner, each time more so. Called from a signal handler, also in the middle of `stop`: it must
        neither block nor raise."""
