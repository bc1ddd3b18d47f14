from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch.triton_install import find_install


def test_the_wheel_is_found_and_laid_out_for_the_server(tmp_path: Path) -> None:
    install = find_install()
    assert os.access(install.binary, os.X_OK)
    for _ in range(2):  # again after a restart
        install.write_backend_directory(tmp_path)
    python = tmp_path / "python"
    assert sorted(p.name for p in python.iterdir()) == [
        "libtriton_python.so",
        "triton_python_backend_stub",
        "triton_python_backend_utils.py",
    ]
    assert all(path.is_file() for path in python.iterdir())  # no link leads nowhere


def test_the_environment_leads_to_this_python_first() -> None:
    install = find_install()
    environment = install.environment(
        {"PATH": "/usr/bin", "LD_LIBRARY_PATH": "/opt/lib", "PYTHONHOME": "/elsewhere", "LANG": "C"}
    )
    assert environment["PATH"].split(":") == [str(Path(sys.executable).parent), "/usr/bin"]
    *libraries, last = environment["LD_LIBRARY_PATH"].split(":")
    assert libraries == [str(path) for path in install.libraries]
    assert last == "/opt/lib"
    assert "PYTHONHOME" not in environment
    assert environment["LANG"] == "C"


def test_a_missing_wheel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"gpt-oss-triton\[embedded\]"):
        find_install()


def test_numpy_2_is_refused_before_it_gives_empty_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.1.0")
    with pytest.raises(ConfigurationError, match=r"has 2\.1\.0: pip install 'numpy<2'"):
        find_install()


def test_a_python_without_its_library_says_how_to_get_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def nowhere(name: str) -> Any:
        return str(tmp_path) if name == "LIBDIR" else None

    monkeypatch.setattr(sysconfig, "get_config_var", nowhere)
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    with pytest.raises(ConfigurationError) as caught:
        find_install()
    assert f"libpython3.{sys.version_info.minor}.so.1.0 is missing" in str(caught.value)
    assert f"apt install libpython3.{sys.version_info.minor}" in str(caught.value)
