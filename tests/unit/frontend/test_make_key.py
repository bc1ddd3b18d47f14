"""The command that makes API keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from frontend.caller import digest_of
from frontend.keys_file import KeysFile, parse_entries
from frontend.make_key import main


def test_the_entry_is_for_the_key_and_does_not_hold_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alice", "--priority", "low", "--concurrency", "3", "--expires", "2027-01-31"]) == 0
    printed, said = capsys.readouterr()
    key = said.split()[-1]
    (entry,) = parse_entries(printed)
    assert entry.sha256 == digest_of(key.encode()).hex()
    assert key not in printed
    assert (entry.name, entry.priority, entry.concurrency) == ("alice", "low", 3)
    assert entry.expires is not None
    assert entry.expires.isoformat() == "2027-01-31T00:00:00+00:00"
    assert entry.requests_per_minute is None


def test_no_two_keys_are_equal(capsys: pytest.CaptureFixture[str]) -> None:
    keys = set()
    for _ in range(5):
        main(["alice"])
        keys.add(capsys.readouterr().err.split()[-1])
    assert len(keys) == 5
    assert all(len(key) > 40 for key in keys)


def test_it_is_appended_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys.toml"
    assert main(["alice", "--file", str(path)]) == 0
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text(path.read_text().rstrip("\n") + "  # no line break at the end")
    assert main(["bob", "--tokens-per-minute", "1000", "--file", str(path)]) == 0
    first, second = capsys.readouterr().out.split()
    keys = KeysFile(path, "normal").keys
    assert [key.caller.name for key in keys] == ["alice", "bob"]
    assert [key.digest for key in keys] == [digest_of(first.encode()), digest_of(second.encode())]
    assert keys[1].caller.limits.tokens_per_minute == 1000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["alice"], "same name"),
        (["a b"], "name"),
        (['a"\nadmin = true'], "name"),
        (["bob", "--concurrency", "0"], "concurrency"),
    ],
)
def test_what_would_break_the_file_is_refused(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "keys.toml"
    main(["alice", "--file", str(path)])
    before = path.read_text()
    capsys.readouterr()
    assert main([*arguments, "--file", str(path)]) == 1
    printed, said = capsys.readouterr()
    assert printed == ""
    assert words in said
    assert path.read_text() == before


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alice", "--file", str(tmp_path / "missing" / "keys.toml")]) == 1
    assert "cannot add" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["a", "--priority", "urgent"], ["a", "--expires", "soon"]])
def test_bad_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
