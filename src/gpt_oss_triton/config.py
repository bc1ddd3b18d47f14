"""Every knob, typed and checked once. Environment variables are `GPT_OSS_` and the field's name.

Read from, strongest first: arguments (a command line), the environment, a TOML file, the profile, the
defaults below. Four groups, one for each process that reads them; a file holds the fields of any group.
`origins` says for each field that is not at its default where its value came from. A process that
starts another hands everything on with `environment`, the origins included.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.profiles import PROFILES, ProfileName
from gpt_oss_triton.wire import MAX_LEASE_S

ENV_PREFIX = "GPT_OSS_"
DEFAULT = "default"
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Priority = Literal["high", "normal", "low"]


def _has_a_port(address: str) -> str:
    if not re.fullmatch(r"(dns:///)?([^\s/:]+|\[[^\s/]+\]):\d{1,5}", address):
        raise ValueError(f"{address!r} should be HOST:PORT of Triton's gRPC endpoint, such as 127.0.0.1:8001")
    return address


Address = Annotated[str, AfterValidator(_has_a_port)]


class _Settings(BaseSettings):
    # An empty variable means "not set": that is what a compose file's ${NAME:-} hands on.
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="ignore", frozen=True, env_ignore_empty=True
    )

    profile: ProfileName = "balanced"
    config_file: Path | None = None  # TOML
    origins: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)

    @classmethod
    def load(cls, **arguments: Any) -> Self:
        """Settings from all layers, `arguments` on top.

        Raises:
            ConfigurationError: names every field at fault.
        """
        try:
            return cls(**arguments)
        except SettingsError as error:  # a variable that should hold JSON does not
            what = str(error).partition(" from source")[0]
            raise ConfigurationError(f"{what} from the environment: it should be JSON") from None
        except ValidationError as error:
            raise ConfigurationError(_explain(error, cls)) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (_Layers(settings_cls, init_settings, env_settings),)

    def with_presets(self, origin: str, **presets: Any) -> Self:
        """A copy where `presets` stand in for defaults; what any layer has set stays as it is."""
        missing = {name: value for name, value in presets.items() if name not in self.origins}
        origins = {**self.origins, **dict.fromkeys(missing, origin)}
        return self.model_copy(update={**missing, "origins": origins})

    def explain(self) -> dict[str, tuple[Any, str]]:
        """field -> (value as JSON would have it, where it came from); secrets are masked."""
        values = self.model_dump(mode="json")
        return {name: (value, self.origins.get(name, DEFAULT)) for name, value in values.items()}


class _Layers(PydanticBaseSettingsSource):
    """All layers as one source: the strongest that has a field gives its whole value.

    pydantic-settings would merge two dictionaries key by key, and so let a weaker layer leak into what a
    stronger one has set."""

    def __init__(
        self,
        settings: type[BaseSettings],
        arguments: PydanticBaseSettingsSource,
        env: PydanticBaseSettingsSource,
    ) -> None:
        super().__init__(settings)
        self._arguments, self._env = arguments, env

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError("layers are read as wholes")  # the base class wants it to exist

    def __call__(self) -> dict[str, Any]:
        arguments, env = self._arguments(), self._env()
        inherited = env.pop("origins", {})
        strong = {**env, **arguments}
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}

        def add(layer: Mapping[str, Any], origin: str, known: Mapping[str, str]) -> None:
            for name, value in layer.items():
                if name in self.settings_cls.model_fields and name not in values:
                    values[name], origins[name] = value, known.get(name, origin)

        add(arguments, "argument", {})
        add(env, "environment", inherited)
        if path := strong.get("config_file"):
            add(read_file(Path(path)), f"file {path}", {})
        profile = values.get("profile", "balanced")
        add(PROFILES.get(profile, {}), f"profile {profile}", {})
        return {**values, "origins": origins}


class EngineSettings(_Settings):
    """One engine model inside Triton."""

    engine: Literal["native", "vllm", "scripted", "auto"] = "native"
    # JSON lines: the answers that the scripted engine gives
    script: Annotated[Path | None, Field(validate_default=True)] = None
    checkpoint_20b: Path | None = None  # None: checkpoints/gpt-oss-20b beside the model repository
    checkpoint_120b: Path | None = None
    device: str = "auto"  # "cuda" where there is one, else "cpu"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    gpu_mode: Literal["auto", "single", "pipeline", "tensor"] = "auto"
    parallel_ranks: Positive | None = (
        None  # devices that a pipeline or tensor engine spreads over; None: all GPUs
    )
    threads: Positive | None = None  # CPU threads of one step; None: all cores
    block_size: Positive = 16  # tokens per KV block
    kv_cache_gib: Annotated[float, Field(gt=0)] | None = None  # None: a share of the memory that is free
    max_context: Positive | None = None  # tokens; None: what the checkpoint was made for
    max_sequences: Positive = 64  # running at once
    max_waiting: Annotated[int, Field(ge=0)] = 256  # accepted and not yet running
    max_step_tokens: Positive = 512  # prompt tokens and decodes computed by one step
    # How many times as long as a step of decodes alone one may be in which a long prompt is computed as well; 0: any
    decode_stretch: Annotated[float, Field(ge=0)] = 2.5
    default_max_tokens: Positive | None = None  # None: what the context leaves
    # Least time between two deliveries to a shim; an answer's first token and its last are not kept waiting.
    delivery_interval_s: Annotated[float, Field(ge=0, le=1)] = 0.05
    prefix_cache: bool = True
    # Launch a step before the last one's tokens are known; auto: on a GPU
    overlap: Literal["auto", "on", "off"] = "auto"
    # Draft tokens where it pays: see Speculation in docs/engine.md
    speculation: Literal["auto", "off"] = "auto"
    session_watermark: Share = 0.7  # of the KV blocks: leases beyond it end, least recently used first

    @field_validator("script")
    @classmethod
    def _goes_with_its_engine(cls, script: Path | None, others: ValidationInfo) -> Path | None:
        engine = others.data.get("engine")
        if engine is not None and (script is not None) != (engine == "scripted"):
            raise ValueError(f"is needed by the engine scripted, and by no other; the engine is {engine}")
        return script


class NormalizerSettings(_Settings):
    """The prompt normalizer inside Triton."""

    prompt_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = (
        None  # None: no date in the prompt
    )
    prompt_version: str = "v1"
    prompt_cache_entries: Annotated[int, Field(ge=0)] = 500
    prompt_cache_ttl_s: Seconds = 600.0


class TargetSettings(BaseModel):
    """One engine, or the engines of one Triton server, that requests can be routed to."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Address  # Triton's gRPC
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,32}$")]
    ensembles: list[str] | None = None  # None: every one that `models` names
    gpus: Annotated[int, Field(ge=0)] = (
        1  # that the engine spreads over; more than one takes the large requests
    )


class FrontendSettings(_Settings):
    """The OpenAI shim."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    triton_url: Address = "127.0.0.1:8001"  # gRPC
    models: dict[str, str] = {"gpt-oss-20b": "gpt-oss-20b"}  # model id at the API -> ensemble in Triton
    targets: list[TargetSettings] = []  # none: the one at `triton_url`
    # who may come in
    api_key: SecretStr | None = None
    api_keys_file: Path | None = None  # hashed keys, each with its limits: scripts/make-key
    admin_key: SecretStr | None = None  # for /admin and configuration; None: nobody has it
    cors_origins: list[str] = []
    metrics_open: bool = True  # /metrics without a key
    max_body_bytes: Positive = 32 * 1024 * 1024
    max_header_bytes: Positive = 64 * 1024
    body_timeout_s: Seconds = 30.0  # for a request's body to come in
    request_timeout_s: Seconds = 600.0  # deadline of one request, queue included
    accept_timeout_s: Seconds = 30.0  # Triton's first answer
    watch_interval_s: Seconds = 0.2
    watch_stale_s: Seconds = 1.5  # silence after which an engine is not ready and gets probed
    watch_hung_s: Seconds = 10.0  # silence after which an engine that answers no probe is given up
    watch_step_s: Seconds = 120.0  # a step of an engine that takes longer hangs
    recover: bool = True  # unload and load a dead engine model; needs explicit model control
    local_triton: bool = (
        False  # Triton is ours, on this machine: a broken one is ended, its supervisor starts it again
    )
    triton_control_key: SecretStr | None = None  # what Triton wants to see before it loads or unloads a model
    drain_timeout_s: Seconds = 30.0
    # sampling, where a request says nothing
    default_temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    default_top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    default_reasoning_effort: Literal["low", "medium", "high"] = "medium"
    guided_calls: bool = False  # calls keep to the declared functions and their schemas, `strict` or not
    reasoning_field: Literal["reasoning", "reasoning_content", "both"] = "reasoning"  # its name in answers
    remember_reasoning_s: Annotated[float, Field(ge=0)] = 3600.0  # of calls, for who sends none back; 0: off
    # admission
    max_queue: Annotated[int, Field(ge=0)] = 256  # requests that wait in the shim
    queue_wait_s: Seconds = 5.0  # the longest wait that is let in; it adapts below this
    output_reserve_tokens: Positive = 1024  # reckoned with for an answer whose limit is higher, or not given
    degrade_max_tokens: Positive | None = None  # cap on answers under the highest pressure; None: none
    default_priority: Priority = "normal"
    # routing
    routing_policy: Literal["affinity", "round_robin"] = "affinity"
    large_prompt_tokens: Positive = (
        8000  # a larger prompt goes to a target of several GPUs, where there is one
    )
    large_kv_mb: Positive = 3000  # as does one with more KV, in 10^6 bytes (120k tokens on 20b),
    memory_pressure: Share = 0.8  # or any, where the chosen target's KV cache is fuller than this
    breaker_failures: Positive = 5  # in a row, after which a target gets no requests
    breaker_open_s: Seconds = 10.0  # for so long
    # sessions
    session_idle_s: Annotated[float, Field(gt=0, le=MAX_LEASE_S)] = 180.0
    session_sweep_s: Seconds = 30.0
    max_sessions: Positive = 10_000
    # answers of deterministic requests, kept whole
    response_cache_entries: Annotated[int, Field(ge=0)] = 0
    response_cache_ttl_s: Seconds = 300.0
    # answers of /v1/responses, for requests that go on from them
    stored_responses: Annotated[int, Field(ge=0)] = 20_000  # at most; 0: none
    stored_responses_mib: Positive = 256
    stored_responses_ttl_s: Seconds = 86_400.0  # since the last use
    # telemetry; where traces go is OpenTelemetry's own OTEL_EXPORTER_OTLP_ENDPOINT
    metrics: bool = True
    metrics_legacy_names: bool = False  # llm_ttft_ms and others of the server before, beside the new names
    trace_errors: Share = 1.0  # kept of the requests that failed,
    trace_slow: Share = 1.0  # of those slower than trace_slow_s,
    trace_rest: Share = 0.03  # and of all others
    trace_slow_s: Seconds = 10.0
    log_format: Literal["auto", "json", "console"] = "auto"  # console on a terminal, else json
    log_level: Literal["debug", "info", "warning", "error"] = "info"


class LaunchSettings(_Settings):
    """The launcher, which reads the other groups as well and hands them on."""

    model: Literal["demo", "20b", "120b"] | None = None  # None: what a checkpoint is set for, else the demo
    auto_port: bool = False  # take the next free port
    force_port: bool = False  # end our own earlier launcher on that port


GROUPS: tuple[type[_Settings], ...] = (LaunchSettings, EngineSettings, NormalizerSettings, FrontendSettings)


def read_file(path: Path) -> dict[str, Any]:
    """The fields that a TOML file sets.

    Raises:
        ConfigurationError: not readable, not TOML, or it holds what no group knows.
    """
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} is not TOML: {error}") from None
    for name in content:
        if name not in field_names() - {"origins", "config_file"}:
            raise ConfigurationError(
                f"{path}: there is no setting {name!r}{did_you_mean(name, field_names())}"
            )
    return content


def field_names() -> set[str]:
    """The names of all settings."""
    return {name for group in GROUPS for name in group.model_fields}


def did_you_mean(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def environment(*settings: _Settings) -> dict[str, str]:
    """What another process needs in its environment to load the same settings with the same origins.

    Secrets are in it."""
    variables: dict[str, str] = {}
    origins: dict[str, str] = {}
    for group in settings:
        for name in sorted(group.origins.keys() - {"config_file"}):  # the file is read once, here
            value = getattr(group, name)
            if value is not None:
                variables[ENV_PREFIX + name.upper()] = _as_text(value)
                origins[name] = group.origins[name]
    return {**variables, f"{ENV_PREFIX}ORIGINS": json.dumps(origins)}


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, (dict, list, bool)):
        return json.dumps(value, default=lambda model: model.model_dump())
    return str(value)


def _explain(error: ValidationError, settings: type[_Settings]) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        name = str(fault["loc"][0]) if fault["loc"] else "settings"
        lines.append(f"{name} ({ENV_PREFIX}{name.upper()}): {fault['msg']}")
    return "; ".join(lines)
