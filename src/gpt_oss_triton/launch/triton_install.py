"""The tritonserver that comes with the `nvidia-pytriton` wheel: where it is and what it needs to start.

Knows nothing of models or processes.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpt_oss_triton.errors import ConfigurationError

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True, slots=True)
class TritonInstall:
    """Attributes:
    binary: the `tritonserver` executable.
    libraries: directories for LD_LIBRARY_PATH, first one first.
    python_backend: file name -> file of the Python backend's directory.
    """

    binary: Path
    libraries: tuple[Path, ...]
    python_backend: Mapping[str, Path]

    def write_backend_directory(self, directory: Path) -> None:
        """Lay out `directory/python`, from which tritonserver loads its Python backend.

        The wheel keeps one stub per Python version apart; the backend wants the right one beside it."""
        target = directory / "python"
        target.mkdir(parents=True, exist_ok=True)
        for name, source in self.python_backend.items():
            (target / name).unlink(missing_ok=True)
            (target / name).symlink_to(source)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """`inherited` with what the server and its stubs need to find their libraries and this Python."""
        environment = dict(inherited)
        # A stub embeds Python and takes its packages from the environment of the first python3 on PATH.
        environment["PATH"] = os.pathsep.join(
            [str(Path(sys.executable).parent), inherited.get("PATH", os.defpath)]
        )
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(
            [*map(str, self.libraries), *filter(None, [inherited.get("LD_LIBRARY_PATH")])]
        )
        environment.pop("PYTHONHOME", None)
        return environment


def find_install() -> TritonInstall:
    """Locate the wheel and check that its stub can run in this environment.

    Raises:
        ConfigurationError: something is missing; the message says what to install.
    """
    spec = importlib.util.find_spec("pytriton")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "The embedded Triton server is not installed: pip install 'gpt-oss-triton[embedded]', "
            "or name a running server with --triton-url."
        )
    package = Path(spec.origin).parent
    server = package / "tritonserver"
    stub = server / "python_backend_stubs" / _PYTHON / "triton_python_backend_stub"
    if not stub.is_file():
        raise ConfigurationError(
            f"nvidia-pytriton has no Python backend for Python {_PYTHON}: use Python 3.11 or 3.12."
        )
    _check_numpy()
    backend = server / "backends" / "python"
    return TritonInstall(
        binary=server / "bin" / "tritonserver",
        libraries=(package.parent / "nvidia_pytriton.libs", _libpython_directory()),
        python_backend={
            "libtriton_python.so": backend / "libtriton_python.so",
            "triton_python_backend_utils.py": backend / "triton_python_backend_utils.py",
            "triton_python_backend_stub": stub,
        },
    )


def _check_numpy() -> None:
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigurationError("NumPy is not installed: pip install 'gpt-oss-triton[engine]'.") from None
    if int(version.split(".")[0]) >= 2:
        raise ConfigurationError(
            f"The embedded Triton 2.51 works with NumPy 1 only, and this environment has {version}: "
            "pip install 'numpy<2'."
        )


def _libpython_directory() -> Path:
    """Where the stub finds the shared libpython that it is linked to."""
    library = f"libpython{_PYTHON}.so.1.0"
    directory = sysconfig.get_config_var("LIBDIR")
    # Debian's own Python says /usr/lib and keeps its library one directory deeper.
    multiarch = sysconfig.get_config_var("MULTIARCH")
    candidates = [Path(sys.base_prefix) / "lib"]
    if directory:
        candidates = [Path(directory), *([Path(directory) / multiarch] if multiarch else []), *candidates]
    for candidate in candidates:
        if (candidate / library).is_file():
            return candidate
    raise ConfigurationError(
        f"{library} is missing, which Triton's Python backend is linked to (looked in "
        f"{', '.join(map(str, candidates))}). Install it (Debian, Ubuntu: apt install libpython{_PYTHON}; "
        f"Fedora: dnf install python{_PYTHON}-libs), or use a Python built with --enable-shared "
        "(pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared; uv's and conda's Pythons are)."
    )
