from __future__ import annotations

import pwd
import shlex
import tempfile
from pathlib import Path

import pytest

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import places


def test_the_repository_of_the_clone_is_found() -> None:
    with places.model_repository() as path:
        assert (path / "gpt-oss-20b" / "config.pbtxt").is_file()


@pytest.mark.parametrize("name", ["a clone of mine", "R&D", "a;b", "$(id)", "it's", "über"])
def test_triton_never_sees_what_a_shell_would_read(name: str, tmp_path: Path) -> None:
    repository = tmp_path / name
    (repository / "model").mkdir(parents=True)
    with places.model_repository(repository) as path:
        assert shlex.quote(str(path)) == str(path)
        assert (path / "model").is_dir()
    assert not path.exists()
    assert (repository / "model").is_dir()  # the link went, and nothing behind it


def test_an_installation_without_a_repository_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="no model repository"),
        places.model_repository(tmp_path / "none"),
    ):
        pass


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert places.cache_directory() == Path("/somewhere/gpt-oss-triton")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert places.cache_directory() == Path("/home/me/.cache/gpt-oss-triton")


def test_a_directory_for_temporary_files_with_a_space_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/var/my tmp")
    assert places.temporary_root() == "/tmp"
    monkeypatch.setattr(tempfile, "tempdir", "/var/tmp")
    assert places.temporary_root() == "/var/tmp"


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigurationError, match="XDG_CACHE_HOME"):
        places.cache_directory()
