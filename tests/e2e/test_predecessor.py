"""What the server before could do, row by row: each test is named for a row and shows it on running processes.

Two servers stand behind the shims: `near`, which is the one of all tests, and `far`, with both models, other settings
and a KV cache so small that one long prompt fills it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from gpt_oss_triton.bench.workload import WORDS
from gpt_oss_triton.block_shape import BlockShape
from gpt_oss_triton.config import EngineSettings, FrontendSettings, NormalizerSettings
from gpt_oss_triton.engine import runner
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.launch import ports
from gpt_oss_triton.launch.triton_server import TritonServer, TritonServerSettings
from gpt_oss_triton.telemetry.families import ENGINE_LABELS
from gpt_oss_triton.telemetry.trace_context import TraceContext
from gpt_oss_triton.wire import GenerationOptions, Message, PromptRequest
from tests.e2e.otlp_receiver import OtlpReceiver, attributes
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE, READY_S, REPOSITORY, DirectClient

pytestmark = pytest.mark.slow

Until = Callable[[Callable[[], bool], str], None]

PATH = "/v1/chat/completions"
LARGE = "gpt-oss-120b"
ADMIN = {"authorization": "Bearer the-admin-key"}
SLOW_S = 1.0
OPENMETRICS = "application/openmetrics-text;version=1.0.0"
FAR = f"far/{ENSEMBLE}"
FAR_STEP = 96  # tokens


# ------------------------------------------------------------------------------------------- servers


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as server:
        yield server


@pytest.fixture(scope="module")
def shim(
    triton: TritonServer, receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shim]:
    """Before `near`, with a profile that a file, variables and the command line go over."""
    file = tmp_path_factory.mktemp("settings") / "settings.toml"
    file.write_text('profile = "latency_first"\nmax_queue = 200\nqueue_wait_s = 1.0\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        with ShimProcess(
            triton,
            config_file=str(file),
            queue_wait_s=30,
            triton_url="nowhere:1",  # the command line names the real one
            models={ENSEMBLE: ENSEMBLE, "assistant": ENSEMBLE},
            admin_key="the-admin-key",
            metrics_legacy_names=True,
            trace_slow_s=SLOW_S,
            log_level="debug",
        ) as process:
            yield Shim(process)


@pytest.fixture(scope="module")
def far(
    engine_environment: dict[str, str],
    checkpoint: Callable[[str], Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[TritonServer]:
    """Both models; 228 blocks for each; a cache of one rendered prompt, for half a second."""
    settings = TritonServerSettings(
        model_repository=REPOSITORY,
        models=[ENSEMBLE, LARGE],
        exit_timeout_s=1,
        log_file=tmp_path_factory.mktemp("far") / "tritonserver.log",
        environment={
            **engine_environment,
            "GPT_OSS_CHECKPOINT_120B": str(checkpoint("mxfp4")),
            "GPT_OSS_KV_CACHE_GIB": "0.00087",
            "GPT_OSS_DTYPE": "bfloat16",
            "GPT_OSS_PROFILE": "latency_first",
            "GPT_OSS_MAX_STEP_TOKENS": str(FAR_STEP),
            "GPT_OSS_PROMPT_VERSION": "v7",
            "GPT_OSS_PROMPT_CACHE_ENTRIES": "1",
            "GPT_OSS_PROMPT_CACHE_TTL_S": "0.5",
        },
    )
    with TritonServer(settings) as server:
        server.start()
        server.wait_ready(READY_S)
        yield server


@pytest.fixture(scope="module")
def both(triton: TritonServer, far: TritonServer) -> Iterator[Shim]:
    """Before both servers, of which `far` says that it has two GPUs."""
    targets = [
        {"name": "near", "url": triton.grpc_url, "ensembles": [ENSEMBLE]},
        {"name": "far", "url": far.grpc_url, "gpus": 2},
    ]
    with ShimProcess(
        triton,
        targets=targets,
        models={ENSEMBLE: ENSEMBLE, LARGE: LARGE},
        large_prompt_tokens=400,
        large_kv_mb=1,
        output_reserve_tokens=1600,
        memory_pressure=0.005,
        watch_interval_s=0.05,
        session_idle_s=2,
        session_sweep_s=0.2,
        recover=False,
        log_level="debug",
    ) as process:
        yield Shim(process)


class Shim:
    """A shim, as its clients and its operators know it."""

    def __init__(self, process: ShimProcess) -> None:
        self.process = process
        self.http = httpx.Client(base_url=process.url, timeout=60)

    def ask(self, text: str, headers: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
        """An unstreamed answer."""
        response = self.http.post(PATH, json=body(text, **fields), headers=headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    @contextlib.contextmanager
    def begun(self, text: str, headers: dict[str, str] | None = None, **fields: Any) -> Iterator[None]:
        """A streamed answer whose first text has come; at the end its client leaves."""
        fields = {"stream": True, "ignore_eos": True, **fields}
        with self.http.stream("POST", PATH, json=body(text, **fields), headers=headers) as response:
            assert response.status_code == 200
            lines = response.iter_lines()  # which ends the answer when it is let go of
            next(lines)
            yield

    def stats(self) -> dict[str, Any]:
        snapshot: dict[str, Any] = self.http.get("/stats", headers=ADMIN).json()
        return snapshot

    def engine(self, target: str = "local") -> dict[str, Any]:
        (engine,) = (engine for engine in self.stats()["engines"] if engine["target"] == target)
        return dict(engine)

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        return sum(
            sample.value
            for family in self.metrics().values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def metrics(self) -> dict[str, Metric]:
        """Families by name."""
        text = self.http.get("/metrics", headers={"accept": OPENMETRICS}).text
        return {f.name: f for f in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]

    def events(self, **fields: str) -> list[dict[str, Any]]:
        """Those lines of the log that have these fields."""
        lines = [json.loads(line) for line in self.process.log().splitlines()]
        return [line for line in lines if fields.items() <= line.items()]


def body(text: str, **fields: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    return {"model": ENSEMBLE, "messages": messages, "max_tokens": 4, "temperature": 0, **fields}


def new_words(count: int) -> str:
    """A text that no cache has seen."""
    return " ".join([secrets.token_hex(8), *(WORDS[n % len(WORDS)] for n in range(count))])


# ---------------------------------------------------------------------------------------------- rows


def test_api(shim: Shim, bundle: httpx.Response) -> None:
    """Chat completions, streamed as server-sent events or whole, and pages for operators at fixed paths."""
    whole = shim.ask("Which paths are there?")["choices"][0]
    streamed = shim.http.post(PATH, json=body("Which paths are there?", stream=True))
    assert streamed.headers["content-type"].startswith("text/event-stream")
    *events, done = [line[6:] for line in streamed.text.split("\n\n") if line]
    assert done == "[DONE]"
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    for part in ("content", "reasoning"):
        assert "".join(delta.get(part) or "" for delta in deltas) == (whole["message"].get(part) or "")

    for path in ("/health", "/stats", "/memory_stats"):
        page = shim.http.get(path)
        assert (page.status_code, page.headers["content-type"]) == (200, "application/json"), path
    assert "# TYPE llm_ttft_seconds histogram" in shim.http.get("/metrics").text
    assert bundle.headers["content-type"] == "application/zip"
    assert shim.http.get("/admin/debug/bundle").status_code == 401


def test_models(
    shim: Shim, both: Shim, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
) -> None:
    """20b and 120b, the latter in MXFP4; bfloat16 from compute capability 8.0 on, float16 below, or what the
    operator says. Ids at the API are names of a model: several may stand for one."""
    assert {model["id"] for model in shim.http.get("/v1/models").json()["data"]} == {ENSEMBLE, "assistant"}
    answers = [shim.ask("Who are you?", model=model) for model in (ENSEMBLE, "assistant")]
    assert [answer["model"] for answer in answers] == [ENSEMBLE, "assistant"]
    assert answers[0]["choices"] == answers[1]["choices"]

    assert both.ask("And you?", model=LARGE)["model"] == LARGE
    assert both.engine(f"far/{LARGE}")["load"]["checkpoint"] == "tiny-mxfp4"
    dtypes = {target: both.engine(target)["load"]["dtype"] for target in ("near", FAR)}
    assert dtypes == {"near": "float32", FAR: "bfloat16"}  # as the checkpoint has it; as GPT_OSS_DTYPE has it
    config = ModelConfig.from_checkpoint(checkpoint("mxfp4"))
    for capability, dtype in {(9, 0): torch.bfloat16, (8, 0): torch.bfloat16, (7, 5): torch.float16}.items():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert runner._dtype(EngineSettings(), config, torch.device("cuda")) == dtype


def test_profiles(shim: Shim, both: Shim, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three presets for batching, limits and sampling. What a file, the environment or the command line sets goes
    over them and is never lost; the running server tells where each value came from."""
    settings = shim.stats()["settings"]
    in_use = {
        name: (settings[name]["value"], settings[name]["origin"].partition(" ")[0]) for name in settings
    }
    assert in_use["output_reserve_tokens"] == (512, "profile")
    assert in_use["default_reasoning_effort"] == ("low", "profile")
    assert in_use["max_queue"] == (200, "file")
    assert in_use["queue_wait_s"] == (30.0, "environment")
    assert in_use["triton_url"][1] == "argument"
    assert in_use["drain_timeout_s"][1] == "default"
    assert shim.stats()["admission"]["max_queue"] == 200

    load = both.engine(FAR)["load"]  # of a server with the same profile and one variable that goes over it
    assert (load["profile"], load["max_sequences"], load["max_step_tokens"]) == (
        "latency_first",
        16,
        FAR_STEP,
    )

    file = tmp_path / "settings.toml"
    file.write_text("max_queue = 1\nqueue_wait_s = 1.0\n")
    monkeypatch.setenv("GPT_OSS_QUEUE_WAIT_S", "2")
    monkeypatch.setenv("GPT_OSS_OUTPUT_RESERVE_TOKENS", "2")
    for profile in ("latency_first", "quality_first", "balanced"):
        loaded = FrontendSettings.load(profile=profile, config_file=str(file), output_reserve_tokens=3)
        assert (loaded.max_queue, loaded.queue_wait_s, loaded.output_reserve_tokens) == (1, 2.0, 3)


def test_batching(shim: Shim, until: Until) -> None:
    """Continuous batching: sequences that run together share the model's steps, join and leave at any time. 128
    requests at once are answered, by bounds for running, waiting and prefilled tokens that operators set."""
    before, tokens = shim.engine()["load"], 300

    def answer(number: int) -> None:
        shim.ask(f"Number {number}?", max_tokens=tokens, ignore_eos=True)

    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(answer, range(8))
        until(lambda: shim.engine()["load"]["running"] > 1, "several that run together")
        list(answers)
    until(
        lambda: shim.engine()["load"]["output_tokens"] >= before["output_tokens"] + 8 * tokens,
        "the last report",
    )
    assert shim.engine()["load"]["steps"] - before["steps"] < 8 * tokens / 2

    def patient(number: int) -> int:
        for _ in range(20):
            response = httpx.post(
                f"{shim.process.url}{PATH}", json=body(f"{number}!", max_tokens=1), timeout=60
            )
            if response.status_code != 429:
                return response.status_code
            time.sleep(int(response.headers["retry-after"]))
        return 429

    with ThreadPoolExecutor(128) as pool:
        assert set(pool.map(patient, range(128))) == {200}
    assert (before["max_sequences"], before["max_waiting"], before["max_step_tokens"]) == (64, 256, 512)


def test_prompt(shim: Shim, both: Shim, client: DirectClient) -> None:
    """The same input gives the same bytes of prompt, in whatever form it comes. A key apart from that forgives what
    changes from call to call. The rendering has a version, which metrics carry as a label."""

    def rendered(text: str, **tensors: Any) -> Any:
        inputs = tensors or {"prompt": PromptRequest([Message("user", text)])}
        options = GenerationOptions(max_tokens=1)
        return client.ask(**inputs, options=options, stream=True)[0].event.prompt

    forms = [rendered("Good day"), rendered("", text_input="Good day"), rendered("Good day")]
    assert len({form.prompt_hash for form in forms}) == 1
    volatile = "At {} from {} session_id={} see {} and {}, commit {}"
    one = rendered(volatile.format("2024-01-01 10:00", "10.0.0.1", "abc", "/tmp/a", "0" * 32, "1234abcd"))
    two = rendered(volatile.format("2025-12-31 23:59", "10.9.9.9", "xyz", "/var/b/c", "f" * 32, "dcba4321"))
    assert one.normalized_key == two.normalized_key
    assert one.prompt_hash != two.prompt_hash

    parts = [{"type": "text", "text": "Good day"}]
    answers = [
        shim.ask("Good day", return_token_ids=True),
        shim.ask("", messages=[{"content": parts, "role": "user"}], return_token_ids=True),
    ]
    assert answers[0]["choices"] == answers[1]["choices"]
    assert answers[0]["usage"]["prompt_tokens"] == answers[1]["usage"]["prompt_tokens"]

    both.ask("Good day", model=LARGE)
    assert shim.metric("llm_ttft_seconds_count", prompt_version="v1") > 0
    assert both.metric("llm_ttft_seconds_count", prompt_version="v7", model_id=LARGE) > 0


def test_prompt_cache(shim: Shim, both: Shim) -> None:
    """Rendered prompts are kept, 500 for 600 seconds; hits and misses are counted, with the reason of each miss."""
    assert NormalizerSettings().prompt_cache_entries == 500
    assert NormalizerSettings().prompt_cache_ttl_s == 600
    before, text = shim.stats()["prompt_cache"], new_words(3)
    for _ in range(3):  # there are two normalizers, each with a cache: one answers from it
        shim.ask(text, max_tokens=1)
    after = shim.stats()["prompt_cache"]
    assert after["hits"] > before["hits"]
    assert after["misses"]["new"] > before["misses"].get("new", 0)
    assert shim.metric("llm_prompt_cache_total", result="hit") == after["hits"]
    assert shim.metric("llm_prompt_cache_total", result="miss", reason="new") == after["misses"]["new"]

    def seen(reason: str, *texts: str, pause_s: float = 0.0) -> bool:
        for text in texts:
            both.ask(text, model=LARGE, max_tokens=1)
            time.sleep(pause_s)
        return reason in both.stats()["prompt_cache"]["misses"]

    texts = [new_words(3) for _ in range(3)]  # for two normalizers
    assert any(seen("evicted", *texts) for _ in range(20)), "there is room for one"
    assert any(seen("expired", texts[0], pause_s=0.6) for _ in range(20)), "it is kept for half a second"
    assert both.metric("llm_prompt_cache_total", reason="evicted") > 0
    assert both.metric("llm_prompt_cache_total", reason="expired") > 0


def test_sessions(shim: Shim, both: Shim, until: Until) -> None:
    """A conversation's KV is kept for its next turn: for 180 idle seconds, looked after every 30, up to 70 % of the
    memory. It is known by name, or by what was said before."""
    defaults = FrontendSettings(), EngineSettings()
    assert (defaults[0].session_idle_s, defaults[0].session_sweep_s) == (180, 30)
    assert defaults[1].session_watermark == 0.7
    before, leases = shim.stats()["sessions"], shim.engine()["load"]["leases"]

    for by in ("header", "prompt_cache_key", "prefix"):
        headers = {"x-session-id": "session-of-this-row"} if by == "header" else {}
        fields = {"prompt_cache_key": "key-of-this-row"} if by == "prompt_cache_key" else {}
        messages: list[dict[str, str]] = []
        for _ in range(3):  # what has no name is recognised in its second turn, and returns in its third
            messages.append({"role": "user", "content": new_words(40)})
            answer = shim.ask("", headers, messages=messages, **fields)
            messages.append(
                {"role": "assistant", "content": answer["choices"][0]["message"]["content"] or ""}
            )
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] >= 80
        assert shim.metric("llm_prefix_cache_hit_total", reason=by) > 0

    after = shim.stats()["sessions"]
    assert after["created_total"] - before["created_total"] == 3
    assert after["returned_total"] - before["returned_total"] == 5
    assert shim.metric("sessions_active") == after["active"] >= 3
    until(lambda: shim.engine()["load"]["leases"] >= leases + 3, "a lease for each")
    assert shim.engine()["load"]["blocks_leased"] > 0

    both.ask(new_words(40), {"x-session-id": "one-that-does-not-come-back"}, model=LARGE)
    until(lambda: both.engine(f"far/{LARGE}")["load"]["leases_ended"]["idle"] > 0, "the lease ends")
    until(lambda: both.stats()["sessions"]["ended_total"].get("idle", 0) > 0, "the session ends")
    assert both.metric("sessions_ended_total", reason="idle") > 0


@dataclass(frozen=True)
class Pressure:
    """What was seen of `far` while one prompt filled four fifths of its KV cache."""

    load: dict[str, Any]  # at its fullest
    bytes_in_use: int
    max_step_tokens: int


@pytest.fixture(scope="module")
def pressure(both: Shim) -> Pressure:
    seen: list[dict[str, Any]] = []
    bytes_in_use = 0
    for _ in range(20):  # the tiny model is done in a moment
        with both.begun(new_words(2740), model=LARGE, max_tokens=500):
            for _ in range(20):
                seen.append(both.engine(f"far/{LARGE}")["load"])
                bytes_in_use = max(bytes_in_use, both.stats()["memory"]["kv_bytes_in_use"])
        steps = min(load["max_step_tokens"] for load in seen)
        if both.stats()["admission"]["level"] >= 1 and steps < FAR_STEP:
            return Pressure(max(seen, key=lambda load: load["blocks_used"]), bytes_in_use, steps)
    raise AssertionError(f"no pressure: {both.stats()}")


def test_memory(shim: Shim, both: Shim, pressure: Pressure, until: Until) -> None:
    """The KV that a request will take is estimated before it is let in. The bytes in use are told, and when they
    are nearly all, the server gives way by degrees and comes back."""
    headers = {"x-request-id": "priced"}
    with shim.begun(new_words(100), headers, max_tokens=20_000):
        until(lambda: shim.metric("kv_bytes_in_use") > 100 * 1024, "KV in use")
        assert shim.http.get("/memory_stats").json()["memory"]["kv_bytes_in_use"] > 0
    until(lambda: shim.metric("kv_bytes_in_use") == 0, "all of it given back")
    until(lambda: bool(shim.events(event="admission", request_id="priced")), "the decision")
    (decision,) = shim.events(event="admission", request_id="priced")
    # At once, so by an estimate: of its prompt, and of as much of its answer as is reserved.
    assert decision["queue_s"] == 0
    assert decision["priced_tokens"] > 100 + 512
    assert decision["priced_blocks"] == BlockShape(16, window=128).held(decision["priced_tokens"] - 1)

    load = pressure.load
    assert load["blocks_used"] > 0.8 * load["blocks_total"]
    assert pressure.bytes_in_use > 0.8 * load["blocks_total"] * load["block_bytes"]
    assert pressure.max_step_tokens == FAR_STEP / 2  # half: chunks of long prompts hold up answers for less
    until(lambda: both.stats()["admission"]["level"] == 0, "it is over")
    until(lambda: both.engine(f"far/{LARGE}")["load"]["max_step_tokens"] == FAR_STEP, "full steps again")


def test_routing(both: Shim, until: Until) -> None:
    """Large requests go to the target of several GPUs: long prompts, much KV, or any while memory is short.
    `/stats` counts them, their triggers and each target's share."""
    triggers = both.stats()["routing"]["route4_triggers"]

    def triggered(trigger: str) -> bool:
        return bool(both.stats()["routing"]["route4_triggers"][trigger] == triggers[trigger] + 1)

    both.ask(new_words(500), max_tokens=1)
    assert triggered("large_prompt")
    with both.begun(new_words(250), max_tokens=2000):
        assert triggered("large_kv")
    until(
        lambda: both.engine(FAR)["load"]["blocks_used"] == both.engine(FAR)["in_flight"] == 0,
        "it was withdrawn",
    )

    session = {"x-session-id": at_home_on_near(both)}
    with both.begun(new_words(5), session, max_tokens=20_000):
        assert both.engine("near")["in_flight"] == 1
        both.ask(new_words(5), session, max_tokens=1)
        assert triggered("memory_pressure")

    routing = both.stats()["routing"]
    placed = {target: sum(reasons.values()) for target, reasons in routing["decisions"].items()}
    assert placed.keys() == {"near", FAR, f"far/{LARGE}"}
    large = placed[FAR] + placed[f"far/{LARGE}"]
    assert routing["route4_gpu_requests"] == large
    assert routing["route4_percentage"] == pytest.approx(100 * large / sum(placed.values()))
    assert routing["gpu_balance"] == pytest.approx({t: n / sum(placed.values()) for t, n in placed.items()})
    assert both.metric("llm_routing_total", target=FAR, reason="large_prompt") == triggers["large_prompt"] + 1


def at_home_on_near(both: Shim) -> str:
    """The name of a session whose first turn ran on `near`."""
    for _ in range(50):
        name, before = secrets.token_hex(4), both.stats()["routing"]["gpu_balance"]["near"]
        both.ask(new_words(5), {"x-session-id": name}, max_tokens=1)
        if both.stats()["routing"]["gpu_balance"]["near"] > before:
            return name
    raise AssertionError("nothing is ever sent to near")


def test_metrics(shim: Shim) -> None:
    """The families that dashboards know, in base units, with the labels that they group by. The old names and
    units are there for those who ask for them."""
    shim.ask("What is counted?")
    families = shim.metrics()
    assert families.keys() >= {
        "llm_ttft_seconds", "llm_e2e_seconds", "llm_output_tokens_per_second", "llm_prefill_tokens",
        "llm_decode_tokens", "llm_prefix_cache_hit", "llm_admission", "kv_bytes_in_use", "sessions_active",
        "gpu_utilization", "gpu_mem_used_bytes", "llm_ttft_ms", "llm_e2e_ms", "llm_tokens_per_sec",
    }  # fmt: skip
    assert set(ENGINE_LABELS) == {
        "model_id", "model_size", "dtype", "route", "tp", "pp", "gpu_mode", "prompt_version", "engine", "profile",
    }  # fmt: skip
    for name in (
        "llm_ttft_seconds",
        "llm_e2e_seconds",
        "llm_prefill_tokens",
        "llm_decode_tokens",
        "llm_ttft_ms",
    ):
        sample = next(s for s in families[name].samples if s.labels["model_id"] == ENSEMBLE)
        assert sample.labels.items() >= {
            "model_size": "20b", "dtype": "float32", "route": PATH, "tp": "1", "pp": "1", "gpu_mode": "single",
            "prompt_version": "v1", "engine": "native", "profile": "balanced",
        }.items()  # fmt: skip
    for seconds, ms in (("llm_ttft_seconds", "llm_ttft_ms"), ("llm_e2e_seconds", "llm_e2e_ms")):
        sums = {
            s.name: s.value
            for name in (seconds, ms)
            for s in families[name].samples
            if s.name.endswith("_sum")
        }
        assert sums[f"{ms}_sum"] == pytest.approx(1000 * sums[f"{seconds}_sum"])
    assert {s.labels["decision"] for s in families["llm_admission"].samples} >= {"admitted"}


def test_traces(shim: Shim, receiver: OtlpReceiver, until: Until) -> None:
    """Spans go to the collector that the environment names: `chat_completion` over `prompt_building` and the
    model's work, with tokens, cache hits and times. Metrics lead to traces by exemplars."""
    trace = sampled_trace()
    shim.ask(new_words(20), {"traceparent": trace.header(sampled=True)})
    until(lambda: "decode" in {span.name for span in receiver.trace(trace.trace_hex)}, "the spans")
    spans = {span.name: span for span in receiver.trace(trace.trace_hex)}
    root, generation, building = (
        spans[n] for n in ("chat_completion", f"chat {ENSEMBLE}", "prompt_building")
    )
    assert root.parent_span_id.hex() == f"{trace.span_id:016x}"
    assert generation.parent_span_id == root.span_id
    assert building.parent_span_id == generation.span_id
    figures = attributes(generation.attributes)
    assert figures["gen_ai.usage.input_tokens"] > 20
    assert figures["gen_ai.usage.output_tokens"] == 4
    assert figures["gpt_oss.cache_hit"] == (figures["gen_ai.usage.cache_read.input_tokens"] > 0)
    assert attributes(building.attributes)["gpt_oss.prompt_cache.reason"] == "new"
    for child, parent in ((generation, root), (building, generation)):
        assert parent.start_time_unix_nano <= child.start_time_unix_nano <= child.end_time_unix_nano
        assert child.end_time_unix_nano <= parent.end_time_unix_nano
    text = shim.http.get("/metrics", headers={"accept": OPENMETRICS}).text
    assert f'trace_id="{trace.trace_hex}"' in text


def sampled_trace(*, among_the_rest: bool = True) -> TraceContext:
    """One that is, or is not, kept of the requests that are neither slow nor failed."""
    share = secrets.randbits(50) if among_the_rest else (1 << 64) - 1 - secrets.randbits(50)
    return TraceContext((secrets.randbits(64) << 64) | share, secrets.randbits(64) | 1)


def test_sampling(shim: Shim, receiver: OtlpReceiver, until: Until) -> None:
    """All errors, all slow requests and 3 % of the rest are kept; the shares and what is slow are settings."""
    defaults = FrontendSettings()
    assert (defaults.trace_errors, defaults.trace_slow, defaults.trace_rest) == (1, 1, 0.03)
    assert defaults.trace_slow_s == 10

    def asked(trace: TraceContext, **fields: Any) -> float:
        """Seconds that a request took, by its log line."""
        headers = {"traceparent": trace.header(sampled=True)}
        shim.http.post(PATH, json=body("How long?", **fields), headers=headers)
        ends = {"event": "request_end", "trace_id": trace.trace_hex}
        until(lambda: bool(shim.events(**ends)), "the request's line")
        return float(shim.events(**ends)[0]["duration_s"])

    def first(wanted: Callable[[float], bool], *tokens: int) -> str:
        """The trace id of a request that took as long as is wanted; all of them would be left out of the rest."""
        for limit in tokens:
            trace = sampled_trace(among_the_rest=False)
            if wanted(asked(trace, max_tokens=limit, ignore_eos=True)):
                return trace.trace_hex
        raise AssertionError(f"none of {tokens} tokens took so long")

    quick = first(lambda seconds: seconds < SLOW_S, *[1] * 10)
    slow = first(lambda seconds: seconds > SLOW_S, 200, 800, 3000, 10_000)
    failed, of_the_rest = sampled_trace(among_the_rest=False), sampled_trace()
    asked(failed, max_tokens=10**6)  # the engine refuses it: no context is so long
    asked(of_the_rest)
    kept = {slow, failed.trace_hex, of_the_rest.trace_hex}
    until(lambda: kept <= receiver.trace_ids(), "what is kept")
    assert quick not in receiver.trace_ids()  # it was asked before them, and they are sent in order


def test_logs(shim: Shim, both: Shim, pressure: Pressure, until: Until) -> None:
    """One JSON object a line, for the start and the end of each request and what is between; each names the
    request and its trace."""

    def told(request_id: str, *kinds: str) -> None:
        until(
            lambda: {e["event"] for e in shim.events(request_id=request_id)} >= set(kinds),
            f"{request_id}: {kinds}",
        )
        for event in shim.events(request_id=request_id):
            assert event["trace_id"] == traces[request_id].trace_hex
            assert {"time", "level", "logger"} <= event.keys()

    traces = {name: TraceContext.new() for name in ("answered", "left", "refused")}
    headers = {
        name: {"x-request-id": name, "traceparent": trace.header(sampled=False)}
        for name, trace in traces.items()
    }
    shim.ask("What is logged?", headers["answered"])
    told("answered", "request_start", "admission", "routing", "cache", "performance", "request_end")
    with shim.begun("And now?", headers["left"], max_tokens=20_000):
        pass
    told("left", "request_start", "request_cancel", "request_end")
    shim.http.post("/admin/drain", headers=ADMIN)
    assert shim.http.post(PATH, json=body("Still there?"), headers=headers["refused"]).status_code == 503
    shim.http.post("/admin/drain", json={"undo": True}, headers=ADMIN)
    told("refused", "request_start", "admission", "error", "request_end")
    until(lambda: bool(both.events(event="memory_pressure")), "the pressure")
    assert both.events(event="memory_pressure")[0]["ensemble"] == LARGE


@pytest.fixture(scope="module")
def bundle(shim: Shim) -> httpx.Response:
    """There is one in ten seconds."""
    shim.ask("What would a maintainer ask?")
    response = shim.http.get("/admin/debug/bundle", headers=ADMIN)
    assert response.status_code == 200
    return response


def test_debug_bundle(bundle: httpx.Response, shim: Shim) -> None:
    """One file with the configuration, the metrics, and the state of GPUs, system, memory and routing."""
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    settings, state = json.loads(parts["settings.json"]), json.loads(parts["snapshot.json"])
    assert settings["max_queue"]["value"] == 200
    assert "the-admin-key" not in "".join(parts.values())
    assert "llm_ttft_seconds_count" in parts["metrics.txt"]
    assert isinstance(state["gpus"], list)
    assert json.loads(parts["system.json"])
    assert {process["pid"] for process in json.loads(parts["processes.json"])} > {shim.process.process.pid}
    assert state["memory"]["kv_bytes_total"] > 0
    assert state["routing"]["gpu_balance"] == {"local": 1.0}


def test_ports(shim: Shim, triton: TritonServer, tmp_path: Path) -> None:
    """`--port` is that port or a clear refusal; `--auto-port` takes the next free one; `--force-port` ends an
    earlier launcher of ours and nobody else. (With whole servers: `test_serve.py`.)"""
    taken = shim.http.base_url.port or 0
    with ports.listen("127.0.0.1", taken, auto=True) as listener:
        assert taken < listener.getsockname()[1] <= taken + 100
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GPT_OSS_")}
    for options in ([], ["--force-port"]):
        refused = subprocess.run(
            [sys.executable, "-m", "gpt_oss_triton.launch.serve", f"--port={taken}", *options,
             "--triton-url", triton.grpc_url],
            env={**environment, "XDG_CACHE_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert refused.returncode == 2
        assert f"error: port {taken} is in use. --auto-port takes the next free one" in refused.stderr
    assert psutil.pid_exists(shim.process.process.pid)
    with socket.create_connection(("127.0.0.1", taken)):
        assert shim.process.ready()
