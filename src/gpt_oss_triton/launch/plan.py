"""What to start: every setting resolved and checked before the first process begins."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt_oss_triton.config import (
    DEFAULT,
    ENV_PREFIX,
    EngineSettings,
    FrontendSettings,
    LaunchSettings,
    NormalizerSettings,
    did_you_mean,
    environment,
    field_names,
)
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.launch import demo
from gpt_oss_triton.launch.places import ROOT, cache_directory
from gpt_oss_triton.machine import available_cores

_ENSEMBLE = {"20b": "gpt-oss-20b", "120b": "gpt-oss-120b", "demo": "gpt-oss-20b"}
_OURS_WITHOUT_FIELD = {"constraints"}  # read by scripts/environment.py


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes:
    ensemble: what tritonserver loads.
    model_id: a name that the API serves, for the line that says so.
    embedded: whether the tritonserver is ours to start.
    """

    launch: LaunchSettings
    engine: EngineSettings
    normalizer: NormalizerSettings
    frontend: FrontendSettings
    ensemble: str
    model_id: str
    embedded: bool

    def triton_environment(self) -> dict[str, str]:
        """For the models in tritonserver. Each group goes only where it is read: no API key in here."""
        threads = str(self.engine.threads)
        return {
            **environment(self.engine, self.normalizer),
            # The engine's step is the only heavy computation, and one runs at a time: it gets every core.
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # NumPy and the tokenizer handle small things; pools of their own would get in the step's way.
            "OPENBLAS_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",  # a checkpoint is a directory; nothing is downloaded at run time
        }

    def frontend_environment(self, **presets: Any) -> dict[str, str]:
        """For the shim; `presets` are what only the launcher knows."""
        return environment(self.frontend.with_presets("launcher", **presets))


def make_plan(
    arguments: dict[str, Any],
    checkpoint: Path | None,
    say: Callable[[str], None],
    stopping: Callable[[], bool] = lambda: False,
) -> Plan:
    """Resolve every layer; `arguments` are fields of any group that the command line has set.

    Raises:
        ConfigurationError: the first thing that is wrong, and what to do about it.
        Stopped: `stopping` became true while the demo model was expanded.
    """
    launch = LaunchSettings.load(**arguments)
    engine = EngineSettings.load(**arguments)
    frontend = FrontendSettings.load(**arguments)
    normalizer = NormalizerSettings.load(**arguments)
    for unknown in _unknown_variables():
        say(f"warning: {unknown}")
    embedded = "triton_url" not in frontend.origins and not frontend.targets
    model = launch.model or _model_of(engine, embedded)
    model_id = demo.MODEL_ID if model == "demo" else _ENSEMBLE[model]
    presets = demo.FRONTEND_PRESETS if model == "demo" else {}
    frontend = frontend.with_presets(f"model {model}", models={model_id: _ENSEMBLE[model]}, **presets)
    if "models" in frontend.origins:
        model_id = next(iter(frontend.models), model_id)
    if embedded:
        _check_models(frontend, _ENSEMBLE[model])
        engine = _engine_for(model, engine, checkpoint, say, stopping)
    else:
        _check_external(engine, launch, checkpoint)
    return Plan(launch, engine, normalizer, frontend, _ENSEMBLE[model], model_id, embedded)


def _model_of(engine: EngineSettings, embedded: bool) -> str:
    """The model that nobody named: the one whose checkpoint is set, else the demo."""
    if not embedded or engine.checkpoint_20b or engine.engine == "scripted":
        return "20b"
    return "120b" if engine.checkpoint_120b else "demo"


def _check_models(frontend: FrontendSettings, loaded: str) -> None:
    """The shim would wait for ever for a model that this Triton does not load."""
    for model_id, ensemble in frontend.models.items():
        if ensemble != loaded:
            raise ConfigurationError(
                f"models ({_origin(frontend, 'models')}) maps {model_id!r} to {ensemble!r}, but the tritonserver "
                f"started here loads only {loaded!r}: choose that model with --model, or change models."
            )


def _engine_for(
    model: str,
    engine: EngineSettings,
    checkpoint: Path | None,
    say: Callable[[str], None],
    stopping: Callable[[], bool],
) -> EngineSettings:
    engine = engine.with_presets("launcher", threads=available_cores())
    if engine.script is not None:
        return _scripted(model, engine, engine.script, checkpoint, say)
    if model == "demo":
        if checkpoint is not None:
            raise ConfigurationError("--checkpoint needs --model 20b or --model 120b beside it.")
        say(
            "demo model: tiny, knows almost nothing, but thinks, answers and calls tools (docs/demo-model.md)"
        )
        path = demo.demo_checkpoint(cache_directory(), say, stopping)
        engine = engine.with_presets("model demo", **demo.ENGINE_PRESETS)
        field, origin = "checkpoint_20b", "model demo"
    else:
        field = f"checkpoint_{model}"
        path, origin = _find_checkpoint(model, engine, checkpoint)
    # Over every layer: it is either what they say, or --checkpoint, or the demo that was asked for.
    return engine.model_copy(update={field: path, "origins": {**engine.origins, field: origin}})


def _scripted(
    model: str, engine: EngineSettings, script: Path, checkpoint: Path | None, say: Callable[[str], None]
) -> EngineSettings:
    if model == "demo" or checkpoint is not None:
        option = "--model demo" if model == "demo" else "--checkpoint"
        raise ConfigurationError(
            f"{option} has no effect with the scripted engine, which needs no checkpoint."
        )
    path = script.absolute()  # tritonserver has another working directory
    if not path.is_file():
        raise ConfigurationError(f"script ({_origin(engine, 'script')}): there is no file {path}.")
    say(f"scripted engine: no model runs, answers are replayed from {path}")
    return engine.model_copy(update={"script": path})


def _find_checkpoint(model: str, engine: EngineSettings, checkpoint: Path | None) -> tuple[Path, str]:
    field = f"checkpoint_{model}"
    set_path: Path | None = getattr(engine, field)
    if checkpoint is not None:
        path, origin = checkpoint, "argument"
    elif set_path is not None:
        path, origin = set_path, _origin(engine, field)
    else:
        path, origin = ROOT / "checkpoints" / f"gpt-oss-{model}", DEFAULT
    try:
        path = path.expanduser().absolute()
    except RuntimeError as error:  # `~name` of nobody
        raise ConfigurationError(f"checkpoint ({origin}) is {str(path)!r}: {error}") from None
    if not (path / "config.json").is_file():
        raise ConfigurationError(
            f"there is no checkpoint of gpt-oss-{model} at {path} ({origin}): it has no config.json. Download it with "
            f"`.venv/bin/hf download openai/gpt-oss-{model} --local-dir {ROOT / 'checkpoints' / f'gpt-oss-{model}'} "
            "--exclude 'original/*' --exclude 'metal/*'`, "
            f"or say where it is with --checkpoint DIR or {ENV_PREFIX}{field.upper()}."
        )
    return path, origin


def _check_external(engine: EngineSettings, launch: LaunchSettings, checkpoint: Path | None) -> None:
    if launch.model == "demo":
        raise ConfigurationError(
            "the demo runs in the embedded tritonserver: it cannot go with --triton-url or targets."
        )
    if checkpoint is not None or engine.origins.get("gpu_mode") == "argument":
        option = "--checkpoint" if checkpoint is not None else "--gpu-mode"
        raise ConfigurationError(
            f"{option} has no effect with --triton-url or targets: set it where that server is started."
        )


def _origin(settings: EngineSettings | FrontendSettings, field: str) -> str:
    return settings.origins.get(field, DEFAULT)


def _unknown_variables() -> list[str]:
    known = field_names() | _OURS_WITHOUT_FIELD
    given = sorted(name for name in os.environ if name.startswith(ENV_PREFIX))
    return [
        f"{name} is no setting of this server and is ignored{did_you_mean(field, known)}"
        for name in given
        if (field := name.removeprefix(ENV_PREFIX).lower()) not in known
    ]
