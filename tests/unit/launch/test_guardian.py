"""Against real process groups: the guarded one ends with its guard's owner, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gpt_oss_triton.launch.guardian import Guardian

OWNER = """\
import sys
from gpt_oss_triton.launch.guardian import Guardian
Guardian().watch(int(sys.argv[1]))
print("watching", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def group() -> Iterator[subprocess.Popen[bytes]]:
    """A leader and a child that heeds no gentle signal."""
    leader = subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60"], start_new_session=True)
    yield leader
    if leader.poll() is None:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()


def own(group: subprocess.Popen[bytes]) -> subprocess.Popen[str]:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(group.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "watching\n"
    assert group.poll() is None
    return owner


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_group_ends_with_the_owner(group: subprocess.Popen[bytes], how: signal.Signals) -> None:
    owner = own(group)
    owner.send_signal(how)
    assert group.wait(30) == -signal.SIGKILL
    owner.communicate()


def test_a_dismissed_guardian_ends_nothing(group: subprocess.Popen[bytes]) -> None:
    guardian = Guardian()
    guardian.watch(group.pid)
    guardian.dismiss()
    guardian.dismiss()  # there is nothing left to dismiss
    assert group.poll() is None


def test_only_the_latest_group_is_guarded(group: subprocess.Popen[bytes]) -> None:
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    guardian = Guardian()
    guardian.watch(group.pid)
    guardian.watch(other.pid)
    process = guardian._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()  # as the end of this process would
    assert other.wait(30) == -signal.SIGKILL
    assert group.poll() is None
    guardian.dismiss()
