"""What the shim asks of an engine besides answers, over a real Triton: leases, salts, its step, its figures."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import (
    Accepted,
    EndLeases,
    Finished,
    GenerationOptions,
    Lease,
    Load,
    Message,
    PromptRequest,
    Tune,
)
from tests.e2e.triton_direct_client import ENGINE, DirectClient, ModelControl, TritonRefused

Until = Callable[[Callable[[], bool], str], None]

LONG = "word " * 100
LABELS = f'model="{ENGINE}",version="1"'


def ask(client: DirectClient, *texts: str, **options: Any) -> tuple[Accepted, Finished]:
    """One streamed turn of a conversation."""
    messages = [Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(texts)]
    wanted = GenerationOptions(**{"max_tokens": 4, "temperature": 0, "ignore_eos": True, **options})
    responses = client.ask(prompt=PromptRequest(messages), options=wanted, stream=True)
    accepted, finished = responses[0].event, responses[-1].event
    assert isinstance(accepted, Accepted)
    assert isinstance(finished, Finished)
    return accepted, finished


def test_a_session_leases_its_blocks_until_asked_to_give_them_up(client: DirectClient) -> None:
    lease, before = Lease("session-of-this-test", idle_s=60), client.load()
    _, first = ask(client, LONG + "lease", lease=lease)
    load = client.load()
    assert load.leases == before.leases + 1
    assert load.blocks_leased >= first.prompt_tokens // load.block_size

    second, _ = ask(client, LONG + "lease", "yes", "and?", lease=lease)
    assert second.cached_tokens >= 100
    load = client.load()
    assert load.leases_ended["replaced"] == before.leases_ended["replaced"] + 1

    load = client.control(EndLeases([lease.id, "nobody's"]))
    assert isinstance(load, Load)
    assert (load.leases, load.leases_ended["asked"]) == (before.leases, before.leases_ended["asked"] + 1)


def test_an_idle_session_loses_its_lease(client: DirectClient, until: Until) -> None:
    before = client.load().leases_ended["idle"]
    ask(client, LONG + "idle", lease=Lease("idle", idle_s=0.1))
    until(lambda: client.load().leases_ended["idle"] == before + 1, "the lease has ended")


def test_tenants_share_no_prefix(client: DirectClient) -> None:
    text = "salt " + LONG
    cached = [ask(client, text, cache_salt=salt)[1].cached_tokens for salt in ("a", "b", "", "a")]
    # Without a salt the words that come before every conversation may be there.
    assert [tokens >= 100 for tokens in cached] == [False, False, False, True]
    assert cached[:2] == [0, 0]


def test_the_step_is_tuned_and_reset(client: DirectClient) -> None:
    configured = client.load()
    tuned = client.control(Tune(configured.max_sequences + 1))
    assert tuned.max_step_tokens == configured.max_sequences + 1
    assert client.load().max_step_tokens == tuned.max_step_tokens
    assert client.control(Tune(1)).max_step_tokens == configured.max_sequences
    assert client.control(Tune()).max_step_tokens == configured.max_step_tokens


@pytest.mark.parametrize(
    ("tensors", "param"),
    [
        ({"control": '{"type": "tune", "max_step_tokens": 0}'}, "max_step_tokens"),
        ({"control": '{"type": "end_leases"}'}, "control"),
        ({"prompt_token_ids": [1], "options": GenerationOptions(lease=Lease("s" * 129, 1))}, "lease"),
        ({"prompt_token_ids": [1], "options": GenerationOptions(lease=Lease("s", 0))}, "lease.idle_s"),
        ({"prompt_token_ids": [1], "options": GenerationOptions(cache_salt="s" * 129)}, "cache_salt"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: DirectClient, tensors: dict[str, Any], param: str
) -> None:
    with pytest.raises(TritonRefused) as refused:
        client.ask(ENGINE, **tensors)
    assert refused.value.error is not None
    assert (refused.value.error.code, refused.value.error.param) == ("invalid_value", param)


def test_the_normalizer_tells_when_it_worked(client: DirectClient) -> None:
    for _ in range(3):  # there are two of them, each with a cache: one answers from it
        before = time.time()
        prompt = ask(client, "When?")[0].prompt
        assert prompt is not None
        assert before <= prompt.started <= prompt.finished <= time.time()
    assert prompt.cache == "hit"


def test_an_answer_tells_how_many_blocks_it_held(client: DirectClient) -> None:
    held = client.load().block_shape.held
    for tokens in (1, 2, 17):
        _, finished = ask(client, "How many blocks?", max_tokens=tokens)
        assert finished.blocks == held(finished.prompt_tokens + tokens - 1)


def test_the_load_tells_what_the_engine_is(client: DirectClient) -> None:
    load = client.load()
    assert (load.engine, load.gpu_mode, load.profile) == ("native", "single", "balanced")
    assert load.block_bytes > 0
    assert load.block_window == 128
    assert load.prefill_tokens_left == 0


# --------------------------------------------------------------------------------- Triton's own metrics


def scrape(server: TritonServer) -> dict[str, float]:
    """The engine's samples on Triton's metrics port: name (and bucket) -> value."""
    with urllib.request.urlopen(server.metrics_url) as answer:  # noqa: S310 - http, and ours
        text = answer.read().decode()
    sample = re.compile(rf'gpt_oss_engine_(\w+)\{{{LABELS}(?:,le="([^"]+)")?\}} (\S+)')
    found = (sample.fullmatch(line) for line in text.splitlines())
    return {f"{m[1]}{{{m[2]}}}" if m[2] else m[1]: float(m[3]) for m in found if m}


def test_tritons_port_shows_the_engines_figures(
    client: DirectClient, triton: TritonServer, until: Until
) -> None:
    before = scrape(triton)
    for n in range(3):
        ask(client, f"Metrics {n}", max_tokens=8)
    load = client.load()

    def caught_up() -> bool:
        return scrape(triton)["output_tokens_total"] == load.output_tokens

    until(caught_up, "the figures have reached Triton")
    now = scrape(triton)
    assert now["prompt_tokens_total"] == load.prompt_tokens
    assert now["cached_tokens_total"] == load.cached_tokens
    assert now["steps_total"] == load.steps
    assert now["kv_blocks_total"] == load.blocks_total
    assert now["kv_blocks_cached"] == load.blocks_cached
    assert (now["running"], now["waiting"], now["kv_blocks_used"]) == (0, 0, 0)
    assert abs(now["reported_timestamp_seconds"] - time.time()) < 60
    until(
        lambda: scrape(triton)["ttft_seconds_count"] >= before["ttft_seconds_count"] + 3, "all are observed"
    )
    now = scrape(triton)
    for name in ("ttft_seconds", "queue_seconds"):
        assert now[f"{name}_bucket{{+Inf}}"] == now[f"{name}_count"]
        assert now[f"{name}_bucket{{300}}"] == now[f"{name}_count"]


def test_figures_go_and_come_back_with_the_model(
    client: DirectClient, triton: TritonServer, model_control: ModelControl, until: Until
) -> None:
    ask(client, "Before the unload")
    until(lambda: scrape(triton)["output_tokens_total"] > 0, "the figures have reached Triton")
    model_control.unload()
    until(lambda: scrape(triton) == {}, "the figures have gone")
    model_control.load()
    until(lambda: scrape(triton).get("kv_blocks_total", 0) > 0, "they are back")
    assert scrape(triton)["output_tokens_total"] == 0
    ask(client, "After the load", max_tokens=5)
    until(lambda: scrape(triton)["output_tokens_total"] == 5, "they count anew")
