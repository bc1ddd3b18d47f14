"""Every setting from every layer: the strongest wins whole, and its origin is known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from gpt_oss_triton import config
from gpt_oss_triton.config import (
    EngineSettings,
    FrontendSettings,
    LaunchSettings,
    NormalizerSettings,
    environment,
    field_names,
)
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.profiles import PROFILES


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in field_names():
        monkeypatch.delenv(f"GPT_OSS_{name.upper()}", raising=False)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("strongest", ["argument", "environment", "file", "profile", "default"])
def test_the_strongest_layer_wins(strongest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = ["argument", "environment", "file", "profile", "default"]
    below = layers[layers.index(strongest) :]
    arguments = {"max_sequences": 1} if "argument" in below else {}
    if "environment" in below:
        monkeypatch.setenv("GPT_OSS_MAX_SEQUENCES", "2")
    file = write(tmp_path / "serve.toml", "max_sequences = 3" if "file" in below else "")
    profile = "latency_first" if "profile" in below else "balanced"

    settings = EngineSettings.load(config_file=file, profile=profile, **arguments)

    expected = {
        "argument": (1, "argument"),
        "environment": (2, "environment"),
        "file": (3, f"file {file}"),
        "profile": (PROFILES["latency_first"]["max_sequences"], "profile latency_first"),
        "default": (64, "default"),
    }
    assert settings.explain()["max_sequences"] == expected[strongest]


def test_a_profile_never_undoes_an_override(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, preset in PROFILES["quality_first"].items():
        group = next(g for g in config.GROUPS if name in g.model_fields)
        choices = get_args(group.model_fields[name].annotation)
        other = next(c for c in choices if c != preset) if isinstance(preset, str) else preset + 1
        assert getattr(group.load(profile="quality_first", **{name: other}), name) == other
        monkeypatch.setenv(f"GPT_OSS_{name.upper()}", str(other))
        assert getattr(group.load(profile="quality_first"), name) == other


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_hold_only_valid_fields(profile: str) -> None:
    known = (
        EngineSettings.model_fields.keys()
        | FrontendSettings.model_fields.keys()
        | NormalizerSettings.model_fields.keys()
    )
    assert PROFILES[profile].keys() <= known
    for group in config.GROUPS:
        settings = group.load(profile=profile)
        for name, value in PROFILES[profile].items():
            if name in group.model_fields:
                assert getattr(settings, name) == value


def test_the_profile_itself_has_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "serve.toml", 'profile = "quality_first"')
    monkeypatch.setenv("GPT_OSS_CONFIG_FILE", str(file))
    assert EngineSettings.load().max_sequences == PROFILES["quality_first"]["max_sequences"]
    monkeypatch.setenv("GPT_OSS_PROFILE", "latency_first")
    assert EngineSettings.load().max_sequences == PROFILES["latency_first"]["max_sequences"]


def test_a_dictionary_is_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "serve.toml", '[models]\n"from-file" = "gpt-oss-20b"')
    monkeypatch.setenv("GPT_OSS_MODELS", '{"from-env": "gpt-oss-120b"}')
    assert FrontendSettings.load(config_file=file).models == {"from-env": "gpt-oss-120b"}


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_API_KEY", "")
    monkeypatch.setenv("GPT_OSS_PORT", "")
    settings = FrontendSettings.load()
    assert (settings.api_key, settings.port) == (None, 8000)


def test_field_names_are_unique_across_groups() -> None:
    """One flat file and one set of variables serve all groups."""
    shared = {"profile", "config_file", "origins"}
    names = [name for group in config.GROUPS for name in group.model_fields if name not in shared]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("max_sequence = 3", "there is no setting 'max_sequence'; did you mean 'max_sequences'?"),
        ("max_sequences = ", "is not TOML"),
        ("[batching]\nmax_sequences = 3", "there is no setting 'batching'"),
        ("origins = {}", "there is no setting 'origins'"),
    ],
)
def test_a_wrong_file_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    file = write(tmp_path / "serve.toml", text)
    with pytest.raises(ConfigurationError) as refused:
        EngineSettings.load(config_file=file)
    assert complaint in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        EngineSettings.load(config_file=tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("PORT", "eighty", "port (GPT_OSS_PORT)"),
        ("PORT", "70000", "port (GPT_OSS_PORT)"),
        ("MODELS", "{", 'field "models" from the environment'),
        ("REQUEST_TIMEOUT_S", "0", "request_timeout_s"),
        ("LOG_LEVEL", "loud", "log_level"),
        ("PROFILE", "fast", "profile (GPT_OSS_PROFILE)"),
        ("TARGETS", "[", 'field "targets" from the environment'),
        ("MEMORY_PRESSURE", "80", "memory_pressure (GPT_OSS_MEMORY_PRESSURE)"),
    ],
)
def test_a_wrong_value_is_refused_by_name(
    variable: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"GPT_OSS_{variable}", value)
    with pytest.raises(ConfigurationError) as refused:
        FrontendSettings.load()
    assert complaint in str(refused.value)


def test_another_process_loads_the_same_settings_with_the_same_origins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / "serve.toml", "max_body_bytes = 1000\nlog_level = 'debug'")
    monkeypatch.setenv("GPT_OSS_API_KEY", "key-of-the-test")
    monkeypatch.setenv("GPT_OSS_CONFIG_FILE", str(file))
    before = FrontendSettings.load(profile="latency_first", port=9, models={"a": "gpt-oss-20b"})
    before = before.with_presets("launcher", local_triton=True, port=1)
    handed_on = environment(before)

    for name in field_names():
        monkeypatch.delenv(f"GPT_OSS_{name.upper()}", raising=False)
    file.unlink()
    for name, value in handed_on.items():
        monkeypatch.setenv(name, value)
    after = FrontendSettings.load()

    without_file = {**before.explain(), "config_file": (None, "default")}
    assert after.explain() == without_file
    assert after.port == 9
    assert after.api_key is not None
    assert after.api_key.get_secret_value() == "key-of-the-test"
    assert after.explain()["local_triton"] == (True, "launcher")
    assert after.explain()["max_body_bytes"] == (1000, f"file {file}")


def test_targets_reach_another_process_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [{"url": "a:8001", "name": "one"}, {"url": "b:8001", "name": "two", "gpus": 4}]
    monkeypatch.setenv("GPT_OSS_TARGETS", json.dumps(targets))
    before = FrontendSettings.load()
    monkeypatch.setenv("GPT_OSS_TARGETS", environment(before)["GPT_OSS_TARGETS"])
    after = FrontendSettings.load()
    assert after.targets == before.targets
    assert [(target.name, target.url, target.gpus) for target in after.targets] == [
        ("one", "a:8001", 1),
        ("two", "b:8001", 4),
    ]


@pytest.mark.parametrize(
    "target",
    [
        {"url": "a:8001"},
        {"url": "a:8001", "name": "with space"},
        {"url": "a:8001", "name": "n" * 33},
        {"url": "a:8001", "name": "n", "gpus": -1},
        {"url": "a:8001", "name": "n", "weight": 2},
    ],
)
def test_a_wrong_target_is_refused(target: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="targets"):
        FrontendSettings.load(targets=[target])


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_API_KEY", "planted-secret")
    monkeypatch.setenv("GPT_OSS_TRITON_CONTROL_KEY", "planted-secret")
    settings = FrontendSettings.load()
    assert settings.explain()["api_key"] == ("**********", "environment")
    assert "planted-secret" not in json.dumps(settings.explain()) + repr(settings) + str(settings)


def test_presets_stand_in_for_defaults_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPT_OSS_MAX_CONTEXT", "64")
    settings = EngineSettings.load().with_presets("model demo", max_context=4096, default_max_tokens=256)
    assert settings.explain()["max_context"] == (64, "environment")
    assert settings.explain()["default_max_tokens"] == (256, "model demo")


def test_the_environment_reaches_only_its_group() -> None:
    assert "GPT_OSS_PORT" not in environment(EngineSettings.load(port=9, threads=2))
    assert LaunchSettings.load(port=9).origins == {}


def test_the_documentation_names_every_setting() -> None:
    operations = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    table = "\n".join(line.split("|")[1] for line in operations.splitlines() if line.startswith("| `"))
    assert field_names() - {"origins"} <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize("profile", [name for name in PROFILES if PROFILES[name]])
def test_the_documentation_tells_what_a_profile_sets(profile: str) -> None:
    operations = (Path(__file__).resolve().parents[2] / "docs" / "operations.md").read_text()
    (row,) = (line for line in operations.splitlines() if line.startswith(f"| `{profile}` |"))
    told = dict(re.findall(r"`(\w+)` ([\w.]+)", row.split("|")[2]))
    assert told == {
        name: value if isinstance(value, str) else f"{value:g}" for name, value in PROFILES[profile].items()
    }
