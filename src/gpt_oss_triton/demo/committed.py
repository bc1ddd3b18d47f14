"""The committed model's files, and what a checkpoint of it is known by. Imported by the launcher, so it knows nothing
of torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gpt_oss_triton.errors import ConfigurationError

_DATA = Path(__file__).parent / "data"
MODEL = _DATA / "gpt-oss-demo.safetensors.xz"
MANIFEST = _DATA / "gpt-oss-demo.json"  # the model file's hash, and the model's sizes
HASH = "sha256"


def manifest(path: Path = MANIFEST) -> dict[str, Any]:
    """`HASH`, hexadecimal, of the model's file; `shape`, the fields of a `Shape`.

    Raises:
        ConfigurationError: it is missing, or no JSON.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path} is missing; is the installation whole?") from None
    except ValueError:
        raise ConfigurationError(f"{path} is damaged; is the installation whole?") from None
    return content
