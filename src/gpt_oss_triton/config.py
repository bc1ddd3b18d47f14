"""Every knob, typed and checked once. Environment variables are `GPT_OSS_` and the field's name.

Read from, strongest first: arguments (a command line), the environment, a TOML file, the profile, the
defaults below. Three groups, one for each process that reads them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

ENV_PREFIX = "GPT_OSS_"
Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)


class EngineSettings(_Settings):
    """One engine model inside Triton."""

    checkpoint_20b: Path | None = None  # None: checkpoints/gpt-oss-20b beside the model repository
    checkpoint_120b: Path | None = None
    device: str = "auto"  # "cuda" where there is one, else "cpu"
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    gpu_mode: Literal["auto", "single", "pipeline", "tensor"] = "auto"
    threads: Positive | None = None  # CPU threads of one step; None: all cores
    block_size: Positive = 16  # tokens per KV block
    kv_cache_gib: Annotated[float, Field(gt=0)] | None = None  # None: a share of the memory that is free
    max_context: Positive | None = None  # tokens; None: what the checkpoint was made for
    max_sequences: Positive = 64  # running at once
    max_waiting: Annotated[int, Field(ge=0)] = 256  # accepted and not yet running
    max_step_tokens: Positive = 512  # prompt tokens and decodes computed by one step
    default_max_tokens: Positive | None = None  # None: what the context leaves
    prefix_cache: bool = True


class NormalizerSettings(_Settings):
    """The prompt normalizer inside Triton."""

    prompt_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")] | None = (
        None  # None: no date in the prompt
    )
    prompt_version: str = "v1"
    prompt_cache_entries: Annotated[int, Field(ge=0)] = 500
    prompt_cache_ttl_s: Seconds = 600.0


class FrontendSettings(_Settings):
    """The OpenAI shim."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    triton_url: str = "127.0.0.1:8001"  # gRPC
    models: dict[str, str] = {"gpt-oss-20b": "gpt-oss-20b"}  # model id at the API -> ensemble in Triton
    api_key: SecretStr | None = None
    max_body_bytes: Positive = 32 * 1024 * 1024
    max_header_bytes: Positive = 64 * 1024
    request_timeout_s: Seconds = 600.0  # deadline of one request, queue included
    accept_timeout_s: Seconds = 30.0  # Triton's first answer
    watch_interval_s: Seconds = 0.2
    watch_stale_s: Seconds = 1.5  # silence after which an engine is not ready and gets probed
    watch_hung_s: Seconds = 10.0  # silence after which an engine that answers no probe is given up
    recover: bool = True  # unload and load a dead engine model; needs explicit model control
    local_triton: bool = False  # Triton runs under the same user on this machine: a hung stub may be killed
    drain_timeout_s: Seconds = 30.0
    log_level: Literal["debug", "info", "warning", "error"] = "info"
