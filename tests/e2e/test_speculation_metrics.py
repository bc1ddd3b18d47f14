"""How many tokens speculation guessed, and how many of them were right, from the engine to whoever scrapes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import GenerationOptions, Message, PromptRequest
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import DirectClient

Until = Callable[[Callable[[], bool], str], None]
Totals = tuple[float, float]  # drafted, accepted

NAMES = ("drafted_tokens", "accepted_tokens")
WORD = 1746  # any token of text


@pytest.fixture(scope="module")
def shim(triton: TritonServer) -> Iterator[ShimProcess]:
    with ShimProcess(triton) as process:
        yield process


def of_the_engine(client: DirectClient) -> Totals:
    load = client.load()
    return load.drafted_tokens, load.accepted_tokens


def at_triton(server: TritonServer) -> Totals:
    text = httpx.get(server.metrics_url).text
    values = [
        re.search(rf"^gpt_oss_engine_{name}_total\{{.*\}} (\S+)$", text, re.MULTILINE) for name in NAMES
    ]
    drafted, accepted = (float(value[1]) if value else -1.0 for value in values)
    return drafted, accepted


def at_the_shim(shim: ShimProcess) -> Totals:
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(httpx.get(f"{shim.url}/metrics").text)
        for sample in family.samples
    }
    return found["llm_drafted_tokens_total"], found["llm_accepted_tokens_total"]


def in_the_stats(shim: ShimProcess) -> Totals:
    load = httpx.get(f"{shim.url}/stats").json()["engines"][0]["load"]
    return load["drafted_tokens"], load["accepted_tokens"]


def test_guesses_are_counted_up_to_both_metrics_ports(
    client: DirectClient, triton: TritonServer, shim: ShimProcess, until: Until
) -> None:
    before = of_the_engine(client)
    # An answer of one word over and over: the easiest to guess.
    options = GenerationOptions(max_tokens=40, temperature=0, ignore_eos=True, logit_bias={WORD: 100.0})
    client.ask(prompt=PromptRequest([Message("user", "Say it again.")]), options=options)
    totals = of_the_engine(client)
    assert totals[1] - before[1] >= 20
    assert totals[0] - before[0] >= totals[1] - before[1]
    until(lambda: at_triton(triton) == totals, "Triton's port shows them")
    until(lambda: in_the_stats(shim) == totals, "the shim has heard of them")
    assert at_the_shim(shim) == totals
