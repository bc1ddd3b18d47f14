"""The ensemble and the engine model as Triton's own clients see them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from gpt_oss_triton import errors, wire
from gpt_oss_triton.launch import shared_memory
from gpt_oss_triton.launch.triton_server import TritonServer
from gpt_oss_triton.wire import (
    Accepted,
    Cancel,
    CancelResult,
    Finished,
    GenerationOptions,
    Message,
    PromptRequest,
)
from tests.e2e.triton_direct_client import (
    ENGINE,
    DirectClient,
    ModelControl,
    Response,
    TritonRefused,
    input_tensor,
)

Until = Callable[[Callable[[], bool], str], None]

ENDLESS = GenerationOptions(max_tokens=50_000, ignore_eos=True, temperature=0)
GREETING = PromptRequest([Message("system", "Be brief."), Message("user", "Good morning!")])


def fold(responses: list[Response]) -> tuple[list[int], str]:
    return [t for r in responses for t in r.token_ids], "".join(r.text for r in responses)


def is_idle(client: DirectClient) -> bool:
    load = client.load()
    return (load.running, load.waiting, load.blocks_used) == (0, 0, 0)


def refusal(call: Callable[[], Any]) -> TritonRefused:
    with pytest.raises(TritonRefused) as caught:
        call()
    return caught.value


# ------------------------------------------------------------------------------------------ answers


def test_a_stream_begins_with_accepted_and_ends_with_finished(client: DirectClient) -> None:
    options = GenerationOptions(max_tokens=24, temperature=0, ignore_eos=True)
    responses = client.ask(prompt=GREETING, options=options, stream=True)
    first, last = responses[0], responses[-1]
    assert isinstance(first.event, Accepted)
    assert first.event.prompt is not None
    assert (first.token_ids, first.text) == ([], "")
    assert isinstance(last.event, Finished)
    assert [r.final for r in responses] == [False] * (len(responses) - 1) + [True]
    assert all(r.event is None for r in responses[1:-1])

    tokens, text = fold(responses)
    assert len(tokens) == 24
    assert text
    assert (last.event.finish_reason, last.event.completion_tokens, last.num_output_tokens) == (
        "length",
        24,
        24,
    )
    so_far = 0
    for response in responses:
        so_far += len(response.token_ids)
        assert response.num_output_tokens == so_far
        assert response.num_input_tokens == first.event.prompt_tokens == last.event.prompt_tokens


def test_one_response_holds_the_same_answer(client: DirectClient) -> None:
    options = GenerationOptions(max_tokens=24, temperature=0, ignore_eos=True)
    streamed = client.ask(prompt=GREETING, options=options, stream=True)
    (whole,) = client.ask(prompt=GREETING, options=options)
    assert fold([whole]) == fold(streamed)
    assert isinstance(whole.event, Finished)
    assert whole.event.prompt is not None
    assert whole.event.prompt.prompt_hash == streamed[0].event.prompt.prompt_hash


def test_plain_text_and_scalars_are_the_same_request_in_another_form(client: DirectClient) -> None:
    """What perf_analyzer and Triton's OpenAI frontend send."""
    records = client.ask(
        prompt=PromptRequest([Message("user", "Hello")]),
        options=GenerationOptions(max_tokens=12, temperature=0.5, seed=7, presence_penalty=0.5),
    )
    scalars = client.ask(
        text_input="Hello",
        max_tokens=12,
        temperature=0.5,
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=0.0,
        top_p=1.0,
        stop_words=[],
        return_num_input_tokens=True,
        return_num_output_tokens=True,
    )
    assert fold(scalars) == fold(records)


def test_text_is_left_out_when_not_wanted(client: DirectClient) -> None:
    (response,) = client.ask(text_input="Hello", max_tokens=8, temperature=0.0, return_text=False)
    assert response.text == ""
    assert len(response.token_ids) == response.num_output_tokens


def test_a_stop_string_ends_the_answer_before_it(client: DirectClient) -> None:
    options = GenerationOptions(max_tokens=64, temperature=0, ignore_eos=True)
    ((_, text),) = [fold(client.ask(text_input="Tell me", options=options))]
    stop = text[10:14]
    (response,) = client.ask(text_input="Tell me", options=options, stop_words=[stop])
    assert response.event.finish_reason == "stop"
    assert response.event.stop == stop
    assert response.text == text[: text.index(stop)]
    assert response.num_output_tokens < 64


def test_a_request_without_an_id_gets_one(client: DirectClient, until: Until) -> None:
    with client.open(ENGINE, prompt_token_ids=[1, 2], options=ENDLESS, stream=True) as first:
        assert isinstance(first.next().event, Accepted)
        (second,) = client.ask(ENGINE, prompt_token_ids=[1, 2], max_tokens=2)
        assert isinstance(second.event, Finished)
    until(lambda: is_idle(client), "the engine is idle")


def test_many_streams_each_get_their_own_answer(client: DirectClient) -> None:
    def ask(i: int) -> tuple[list[int], str]:
        text = f"Question {i}: " + "why " * (i * 3)
        return fold(
            client.ask(text_input=text, max_tokens=24, temperature=0.0, stream=True, request_id=f"many-{i}")
        )

    alone = [ask(i) for i in range(32)]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(ask, range(32)))
    assert together == alone
    assert is_idle(client)


# ---------------------------------------------------------------------------------------- bad input

BAD_INPUTS: list[tuple[dict[str, Any], str, str | None]] = [
    ({}, "invalid_value", "text_input"),
    ({"text_input": "a", "prompt": GREETING}, "invalid_value", "prompt"),
    ({"text_input": b"\xff"}, "invalid_value", "text_input"),
    ({"prompt": "{"}, "invalid_value", "prompt"),
    ({"prompt": '{"messages": [{"role": "wizard", "content": "a"}]}'}, "invalid_value", "messages"),
    ({"prompt": '{"messages": [{"role": "user", "content": 1}]}'}, "invalid_value", "messages"),
    ({"prompt": '{"messages": []}'}, "invalid_value", "messages"),
    ({"prompt": '{"messages": [], "x": ' + "[" * 100_000}, "invalid_value", "prompt"),
    ({"prompt": '{"messages": [{"role": "user", "content": "\\ud800"}]}'}, "invalid_value", "prompt"),
    ({"text_input": "a", "options": "[]"}, "invalid_value", "options"),
    ({"text_input": "a", "options": '{"top_k": -1}'}, "invalid_value", "top_k"),
    ({"text_input": "a", "options": '{"top_k": "many"}'}, "invalid_value", "top_k"),
    ({"text_input": "a", "temperature": float("nan")}, "invalid_value", "temperature"),
    ({"text_input": "a", "top_p": 1.5}, "invalid_value", "top_p"),
    ({"text_input": "a", "max_tokens": 0}, "invalid_value", "max_tokens"),
    ({"text_input": "a", "max_tokens": -3}, "invalid_value", "max_tokens"),
    ({"text_input": "a", "stop_words": [""]}, "invalid_value", "stop"),
    ({"text_input": "a", "guided_decoding_guide": "{}"}, "unsupported_parameter", "guided_decoding_guide"),
    ({"text_input": "a", "max_tokens": 10_000_000}, "context_length_exceeded", "max_tokens"),
    ({"text_input": "word " * 140_000}, "context_length_exceeded", "messages"),
]


@pytest.mark.parametrize(("tensors", "code", "param"), BAD_INPUTS)
def test_bad_input_is_refused_by_name(
    client: DirectClient, tensors: dict[str, Any], code: str, param: str | None
) -> None:
    refused = refusal(lambda: client.ask(**tensors))
    assert refused.error is not None, refused.text
    assert (refused.error.code, refused.error.param) == (code, param)
    assert "Traceback" not in refused.text


@pytest.mark.parametrize(
    ("tensors", "param"),
    [
        ({"control": '{"type": "explode"}'}, "type"),
        ({"control": '{"type": "watch", "interval_s": 0}'}, "interval_s"),
        ({"control": wire.Ping(), "stream": True}, "control"),
        ({"prompt_token_ids": []}, "prompt_token_ids"),
        ({"prompt_token_ids": [-1]}, "prompt_token_ids"),
        ({"prompt_token_ids": [201_088]}, "prompt_token_ids"),
        ({"prompt_token_ids": [1], "prompt_info": "{}"}, "prompt_info"),
        ({"max_tokens": 4}, "prompt_token_ids"),
    ],
)
def test_bad_input_of_the_engine_model(client: DirectClient, tensors: dict[str, Any], param: str) -> None:
    refused = refusal(lambda: client.ask(ENGINE, **tensors))
    assert refused.error is not None, refused.text
    assert (refused.error.code, refused.error.param) == ("invalid_value", param)


def test_an_error_has_its_code_in_triton_as_well(triton: TritonServer) -> None:
    """Streams carry text alone; a plain call, which the normalizer allows, shows the code."""
    with pytest.raises(InferenceServerException) as caught:
        grpcclient.InferenceServerClient(triton.grpc_url).infer(
            wire.NORMALIZER_MODEL, [input_tensor("text_input", b"\xff")]
        )
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert isinstance(errors.from_wire(caught.value.message()), errors.InvalidRequest)


def test_an_id_in_use_is_refused_and_the_first_goes_on(client: DirectClient) -> None:
    with client.open(text_input="a", options=ENDLESS, stream=True, request_id="twice") as first:
        first.next()
        refused = refusal(lambda: client.ask(text_input="b", request_id="twice"))
        assert refused.error is not None
        assert refused.error.param == "request_id"
        assert client.control(Cancel("twice")) == CancelResult(found=True)
        *_, last = first
        assert last.event.finish_reason == "cancelled"


def test_a_bad_request_does_not_hurt_its_neighbours(client: DirectClient) -> None:
    def good(i: int) -> int:
        return client.ask(text_input=f"{i}", max_tokens=4, options='{"ignore_eos": true}')[
            -1
        ].num_output_tokens

    def bad(i: int) -> errors.ServiceError | None:
        return refusal(lambda: client.ask(text_input=b"\xff")).error

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: good(i) if i % 2 else bad(i), range(16)))
    assert answers[1::2] == [4] * 8
    assert all(isinstance(error, errors.InvalidRequest) for error in answers[::2])


# ------------------------------------------------------------------------------------ cancel, leave


def test_cancel_by_id_ends_the_ensembles_stream(client: DirectClient, until: Until) -> None:
    with client.open(text_input="Go on", options=ENDLESS, stream=True, request_id="long") as stream:
        assert isinstance(stream.next().event, Accepted)
        assert client.control(Cancel("long")) == CancelResult(found=True)
        *_, last = stream
    assert isinstance(last.event, Finished)
    assert last.event.finish_reason == "cancelled"
    assert last.event.completion_tokens == last.num_output_tokens
    until(lambda: is_idle(client), "the engine is idle")


def test_an_unstreamed_answer_is_cancelled_too(client: DirectClient, until: Until) -> None:
    with client.open(text_input="Go on", options=ENDLESS, request_id="long-whole") as stream:
        until(lambda: client.load().running == 1, "it runs")
        assert client.control(Cancel("long-whole")) == CancelResult(found=True)
        (only,) = stream
    assert only.event.finish_reason == "cancelled"


def test_a_cancellation_that_overtakes_its_request_is_kept_for_it(client: DirectClient) -> None:
    assert client.control(Cancel("early")) == CancelResult(found=False)
    refused = refusal(lambda: client.ask(text_input="a", options=ENDLESS, request_id="early"))
    assert isinstance(refused.error, errors.Cancelled)


def test_cancelling_what_has_ended_changes_nothing(client: DirectClient) -> None:
    client.ask(text_input="a", max_tokens=2, request_id="ended")
    assert client.control(Cancel("ended")) == CancelResult(found=False)
    (response,) = client.ask(text_input="a", max_tokens=2, request_id="ended")
    assert isinstance(response.event, Finished)


@pytest.mark.parametrize("streamed", [True, False])
def test_a_direct_client_that_disconnects_frees_the_engine(
    client: DirectClient, until: Until, streamed: bool
) -> None:
    prompt = list(range(1000, 1050))
    with client.open(ENGINE, prompt_token_ids=prompt, options=ENDLESS, stream=streamed) as stream:
        until(lambda: client.load().running == 1, "it runs")
        stream.disconnect()
        until(lambda: is_idle(client), "the engine is idle")


def test_a_watch_counts_its_reports_and_ends_with_its_client(client: DirectClient) -> None:
    with client.open(ENGINE, control=wire.Watch(interval_s=0.02)) as watch:
        reports = [watch.next() for _ in range(5)]
        loads = [report.event for report in reports]
        assert [load.sequence for load in loads] == [0, 1, 2, 3, 4]
        assert {load.pid for load in loads} == {client.load().pid}
        assert not any(report.final for report in reports)
        with client.open(text_input="Go on", options=ENDLESS, stream=True, request_id="watched") as stream:
            stream.next()
            while watch.next().event.running != 1:  # each next() has a deadline
                pass
            client.control(Cancel("watched"))
            while watch.next().event.running != 0:
                pass


# ------------------------------------------------------------------------------- the model's own life


def engine_pid(client: DirectClient) -> int:
    return client.load().pid


def ready(client: DirectClient) -> bool:
    try:
        return client.load().running == 0
    except TritonRefused:
        return False


def test_unload_and_load_leave_no_shared_memory(
    client: DirectClient, triton: TritonServer, model_control: ModelControl, until: Until
) -> None:
    client.ask(text_input="a", max_tokens=2)
    before, pid = shared_memory.regions(triton.shm_prefix), engine_pid(client)
    with client.open(
        ENGINE, control=wire.Watch(0.02)
    ) as watch:  # an open watch holds the model until it goes
        watch.next()
        model_control.unload()
        assert model_control.state() == "UNLOADING"
        watch.disconnect()
        until(lambda: model_control.state() == "UNAVAILABLE", "the engine model is unloaded")
    model_control.load()
    assert engine_pid(client) != pid
    assert isinstance(client.ask(text_input="a", max_tokens=2)[-1].event, Finished)
    assert len(shared_memory.regions(triton.shm_prefix)) == len(before)
    assert shared_memory.sweep(triton.shm_prefix) == []


@pytest.mark.usefixtures("started_anew")
def test_a_killed_stub_is_brought_back_and_its_memory_removed(
    client: DirectClient, triton: TritonServer, model_control: ModelControl, until: Until
) -> None:
    """With no answer in flight, which keeps the server sound; with some, see `test_engine_death.py`."""
    before, pid = shared_memory.regions(triton.shm_prefix), engine_pid(client)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not ready(client), "Triton sees the death")
    model_control.unload()
    model_control.load()
    assert engine_pid(client) != pid

    def swept() -> bool:
        shared_memory.sweep(triton.shm_prefix)
        return len(shared_memory.regions(triton.shm_prefix)) == len(before)

    until(swept, "the dead stub's region is removed")
    assert isinstance(client.ask(text_input="a", max_tokens=2)[-1].event, Finished)
