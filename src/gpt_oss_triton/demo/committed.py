"""Where the committed model lies. Imported by the launcher, so it knows nothing of torch."""

from __future__ import annotations

from pathlib import Path

_DATA = Path(__file__).parent / "data"
MODEL = _DATA / "gpt-oss-demo.safetensors.xz"
MANIFEST = _DATA / "gpt-oss-demo.json"  # the file's hash, and the model's sizes
