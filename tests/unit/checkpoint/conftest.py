"""Tiny checkpoints of one seed, built once for all tests here."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from gpt_oss_triton.checkpoint import build_checkpoint


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of the tiny checkpoint of a dtype."""
    root = tmp_path_factory.mktemp("checkpoints")

    @cache
    def directory(dtype: str) -> Path:
        build_checkpoint("tiny", dtype, seed=7, out=root / dtype)
        return root / dtype

    return directory
