"""What every kind of test may need: real gpt-oss checkpoints, made once a session."""

from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

from gpt_oss_triton.checkpoint import build_checkpoint

# No deadline for an example: how fast the machine is must not decide a test.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


@pytest.fixture
def anyio_backend() -> str:
    """What tests that are coroutines run on."""
    return "asyncio"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`checkpoint("fp32")`: the directory of a tiny gpt-oss checkpoint of that dtype, seed 0."""
    made: dict[str, Path] = {}

    def get(dtype: str) -> Path:
        if dtype not in made:
            made[dtype] = tmp_path_factory.mktemp("checkpoints") / f"tiny-{dtype}"
            build_checkpoint("tiny", dtype, 0, made[dtype], None)
        return made[dtype]

    return get
