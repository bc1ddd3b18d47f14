"""Where an engine model's checkpoint is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gpt_oss_triton.config import ENV_PREFIX, EngineSettings
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.wire import ENGINE_OF

_CHECKPOINT_FIELD = {"gpt-oss-20b": "checkpoint_20b", "gpt-oss-120b": "checkpoint_120b"}


def find_checkpoint(args: Mapping[str, str], settings: EngineSettings) -> Path:
    """The checkpoint directory of one engine model.

    Args:
        args: what Triton passes to `initialize`: `model_name`, and `model_repository`, the model's own
            directory inside the repository.

    Raises:
        ConfigurationError: there is no such directory; the message names the variable to set.
    """
    ensemble = next((name for name, engine in ENGINE_OF.items() if engine == args["model_name"]), None)
    if ensemble is None:
        raise ConfigurationError(
            f"{args['model_name']!r} is not an engine model; known are {', '.join(ENGINE_OF.values())}."
        )
    variable = f"{ENV_PREFIX}{_CHECKPOINT_FIELD[ensemble].upper()}"
    configured: Path | None = getattr(settings, _CHECKPOINT_FIELD[ensemble])
    beside = Path(args["model_repository"]).parent.parent / "checkpoints" / ensemble
    checkpoint = configured or beside
    if not (checkpoint / "config.json").is_file():
        what = "holds no config.json" if checkpoint.is_dir() else "does not exist"
        raise ConfigurationError(
            f"no checkpoint for {ensemble}: {checkpoint} {what}. Set {variable} to a directory in "
            f"Hugging Face's layout, or put one at {beside}."
        )
    return checkpoint
