"""The native engine as its callers see it: every request ends once, and nothing is left behind."""

import json
import shutil
import threading
import time
import weakref

import pytest
import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine import native, runner
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.protocol import (
    EngineRequest,
    NewTokens,
    PromptAccepted,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.errors import (
    ConfigurationError,
    ContextLengthExceeded,
    EngineUnavailable,
    InternalError,
    InvalidRequest,
    Overloaded,
)
from gpt_oss_triton.wire import GenerationOptions, Lease
from tests.unit.engine.conftest import SETTINGS, Call


@pytest.fixture(scope="module", params=["off", "on"], ids=["in turn", "overlapping"])
def overlap(request):
    return request.param


def wait_until(condition, timeout=10.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.005)


def idle(engine):
    load = engine.load()
    return (load.running, load.waiting, load.blocks_used) == (0, 0, 0)


def test_events_come_in_order_and_end_once(engine):
    call = Call(engine, [1, 2, 3])
    end = call.end()
    kinds = [type(event) for event in call.seen]
    assert kinds == [PromptAccepted, *[NewTokens] * 8, SequenceFinished]
    assert (end.finish_reason, end.prompt_tokens, end.completion_tokens) == ("length", 3, 8)
    timings = end.timings
    assert timings.arrived <= timings.scheduled <= timings.first_token <= timings.finished
    wait_until(lambda: idle(engine))
    assert call.events.empty()


def test_a_stop_id_ends_with_that_token_delivered(engine):
    tokens = greedy(engine, [5, 6])
    call = Call(engine, [5, 6], stop_token_ids=[tokens[2]])
    end = call.end()
    assert call.tokens == tokens[: tokens.index(tokens[2]) + 1]
    assert (end.finish_reason, end.stop) == ("stop", tokens[2])


def test_eos_ends_unless_ignored(engine):
    biased = {"logit_bias": {200002: 100.0}}
    ended = Call(engine, [5, 6], ignore_eos=False, **biased)
    assert (ended.end().finish_reason, ended.tokens) == ("stop", [200002])
    ignored = Call(engine, [5, 6], ignore_eos=True, max_tokens=3, **biased)
    assert (ignored.end().finish_reason, ignored.tokens) == ("length", [200002] * 3)


@pytest.mark.parametrize("penalty", [{"frequency_penalty": 2.0}, {"presence_penalty": 2.0}])
def test_penalties_keep_a_greedy_answer_from_repeating(engine, penalty):
    pushed = {7: 40.0, 8: 39.0, 9: 38.5}  # without a penalty the answer is all sevens
    plain, penalized = Call(engine, [7], logit_bias=pushed), Call(engine, [7], logit_bias=pushed, **penalty)
    plain.end()
    assert isinstance(penalized.end(), SequenceFinished)
    assert len(set(penalized.tokens)) > len(set(plain.tokens))


def test_a_strong_repetition_penalty_makes_every_token_new(engine):
    call = Call(engine, [7], repetition_penalty=10.0, max_tokens=30)
    call.end()
    assert len(set(call.tokens) | {7}) == 31


def test_a_stop_text_watches_every_token(engine):
    watched = []

    def stop(token):
        watched.append(token)
        return "END" if len(watched) == 3 else None

    call = Call(engine, [5, 6], stop_text=stop)
    end = call.end()
    assert watched == call.tokens
    assert (end.finish_reason, end.stop, end.completion_tokens) == ("stop", "END", 3)


def greedy(engine, prompt, n=8):
    call = Call(engine, prompt, max_tokens=n)
    call.end()
    return call.tokens


def test_cancel_in_decode_frees_everything(engine):
    call = Call(engine, [1, 2], max_tokens=900)
    call.until(NewTokens)
    assert engine.cancel(call.id)
    assert call.end().finish_reason == "cancelled"
    wait_until(lambda: idle(engine))
    assert not engine.cancel(call.id)


def test_cancel_in_the_queue(make_engine):
    engine = make_engine(max_sequences=1)
    first = Call(engine, [1], max_tokens=900)
    first.until(NewTokens)
    queued = Call(engine, [2], max_tokens=900)
    queued.until(PromptAccepted)
    assert engine.load().waiting == 1
    engine.cancel(queued.id)
    end = queued.end()
    assert (end.finish_reason, end.completion_tokens, end.timings.scheduled) == ("cancelled", 0, None)
    engine.cancel(first.id)
    first.end()
    wait_until(lambda: idle(engine))
    engine.close()


def test_prefix_hits_are_reported_and_change_nothing(engine):
    prompt = list(range(300, 400))
    first = Call(engine, prompt)
    assert first.until(PromptAccepted).cached_tokens == 0
    first.end()
    second = Call(engine, prompt)
    assert second.until(PromptAccepted).cached_tokens == 96
    assert second.end().cached_tokens == 96
    assert second.tokens == first.tokens


@pytest.mark.parametrize(
    ("prompt", "options", "error", "param"),
    [
        ([], {}, InvalidRequest, "prompt_token_ids"),
        ([-1], {}, InvalidRequest, "prompt_token_ids"),
        ([201_088], {}, InvalidRequest, "prompt_token_ids"),
        ([1] * 1024, {"max_tokens": None}, ContextLengthExceeded, "messages"),
        ([1] * 1000, {"max_tokens": 25}, ContextLengthExceeded, "max_tokens"),
        ([1], {"max_tokens": 0}, InvalidRequest, "max_tokens"),
        ([1], {"temperature": float("nan")}, InvalidRequest, "temperature"),
        ([1], {"seed": 10**400}, InvalidRequest, "seed"),
        ([1], {"seed": 2**64}, InvalidRequest, "seed"),
        ([1], {"top_p": 1.5}, InvalidRequest, "top_p"),
        ([1], {"logit_bias": {300_000: 1.0}}, InvalidRequest, "logit_bias"),
        ([1], {"stop_token_ids": [300_000]}, InvalidRequest, "stop_token_ids"),
        ([1], {"lease": Lease("", 60)}, InvalidRequest, "lease"),
        ([1], {"lease": Lease("s" * 129, 60)}, InvalidRequest, "lease"),
        ([1], {"cache_salt": "s" * 129}, InvalidRequest, "cache_salt"),
    ],
)
def test_impossible_requests_are_refused_at_once(engine, prompt, options, error, param):
    with pytest.raises(error) as refused:
        Call(engine, prompt, **options)
    assert refused.value.param == param
    assert idle(engine)


def test_context_refusal_names_the_numbers(engine):
    with pytest.raises(ContextLengthExceeded, match=r"1024 tokens.*1000.*25"):
        Call(engine, [1] * 1000, max_tokens=25)


def test_a_context_larger_than_the_cache_is_refused_not_hung(make_engine):
    engine = make_engine(kv_cache_gib=0.0005)
    held = engine.load()
    assert held.max_context == held.block_shape.most_tokens(held.blocks_total) < 1024
    longest = Call(engine, [1] * (held.max_context - 1), max_tokens=1)
    assert longest.end().blocks < held.blocks_total
    with pytest.raises(ContextLengthExceeded):
        Call(engine, [1] * held.max_context, max_tokens=1)
    engine.close()


def test_queue_bound_and_duplicate_id(make_engine):
    engine = make_engine(max_sequences=1, max_waiting=1)
    calls = [Call(engine, [n], max_tokens=500) for n in range(2)]
    with pytest.raises(Overloaded) as full:
        Call(engine, [9])
    assert full.value.retry_after_s
    with pytest.raises(InvalidRequest, match="already running"):
        engine.submit(EngineRequest(calls[0].id, [1], GenerationOptions()), print)
    for call in calls:
        engine.cancel(call.id)
        call.end()
    engine.close()


def test_too_little_cache_preempts_and_still_answers_all(make_engine, engine):
    prompts = [[n] * 40 for n in range(1, 7)]
    alone = [greedy(engine, prompt, 60) for prompt in prompts]
    # 2 * 4 layers * 2 heads * 16 dims * 4 bytes a token: room for about 250 tokens, and 600 are wanted.
    small = make_engine(kv_cache_gib=250 * 1024 / 2**30, prefix_cache=False)
    calls = [Call(small, prompt, max_tokens=60) for prompt in prompts]
    ends = [call.end() for call in calls]
    assert [call.tokens for call in calls] == alone
    assert sum(end.preemptions for end in ends) > 0
    wait_until(lambda: idle(small))
    small.close()


def test_a_failing_sequence_fails_alone(make_engine):
    engine = make_engine()
    runner = engine._runner
    launch, poison = runner.launch, 77

    def failing(chunks, before):
        if any(poison in chunk.sequence.token_ids for chunk in chunks):
            raise RuntimeError("bad kernel")
        return launch(chunks, before)

    runner.launch = failing
    calls = [Call(engine, [n, n + 1], max_tokens=30) for n in (10, 20, 30)]
    bad = Call(engine, [poison])
    failed = bad.end()
    assert isinstance(failed, SequenceFailed)
    assert isinstance(failed.error, InternalError)
    assert "bad kernel" not in failed.error.message
    assert [call.end().finish_reason for call in calls] == ["length"] * 3
    assert engine.load().failed_steps > 0
    wait_until(lambda: idle(engine))
    engine.close()


def test_a_cancel_during_the_step_that_fails_harms_nobody(make_engine):
    engine = make_engine()
    launch = engine._runner.launch

    def failing(chunks, before):
        if any(77 in chunk.sequence.token_ids for chunk in chunks):
            engine.cancel(bad_id[0])
            raise RuntimeError("bad kernel")
        return launch(chunks, before)

    engine._runner.launch = failing
    bad_id = []
    other = Call(engine, [1], max_tokens=200)
    other.until(NewTokens)
    bad_id.append(f"call-{int(other.id.removeprefix('call-')) + 1}")
    assert isinstance(Call(engine, [77]).end(), SequenceFailed)
    assert other.end().finish_reason == "length"
    assert Call(engine, [2]).end().finish_reason == "length"
    engine.close()


def test_a_failed_step_leaves_no_tensors_behind_for_the_retry(make_engine, monkeypatch):
    # pytest keeps log records, and with them the traceback that this test is about.
    monkeypatch.setattr(native.log, "exception", lambda *args: None)
    engine = make_engine()
    launch = engine._runner.launch
    held: list[weakref.ref] = []
    still_held = []

    def failing(chunks, before):
        if len(chunks) > 1:
            large = torch.zeros(1000)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError
        still_held.extend(ref() for ref in held if ref() is not None)
        return launch(chunks, before)

    engine._runner.launch = failing
    calls = [Call(engine, [n, n + 1]) for n in (10, 20, 30)]
    assert [call.end().finish_reason for call in calls] == ["length"] * 3
    assert held
    assert not still_held
    engine.close()


def test_a_raising_stop_text_fails_its_request_only(engine):
    def broken(token):
        raise ValueError("foreign")

    bad, good = Call(engine, [5], stop_text=broken), Call(engine, [6])
    assert isinstance(bad.end().error, InternalError)
    assert good.end().finish_reason == "length"
    wait_until(lambda: idle(engine))


def test_a_panic_of_foreign_code_is_no_silence(make_engine):
    class Panic(BaseException):
        """As those of Rust come."""

    def panicking(token):
        raise Panic

    engine = make_engine()
    call = Call(engine, [5], stop_text=panicking)
    assert isinstance(call.end().error, EngineUnavailable)
    with pytest.raises(EngineUnavailable):
        engine.load()
    engine.close()


def test_logits_that_are_no_numbers_fail_the_request_and_are_not_reused(make_engine):
    engine = make_engine()
    forward = engine._runner._executor.forward
    engine._runner._executor.forward = lambda *step: forward(*step) * float("nan")
    prompt = list(range(500, 540))
    assert isinstance(Call(engine, prompt).end().error, InternalError)
    engine._runner._executor.forward = forward
    again = Call(engine, prompt)
    assert again.until(PromptAccepted).cached_tokens == 0
    assert again.end().finish_reason == "length"
    engine.close()


def test_a_failed_device_ends_everything_and_refuses_more(make_engine):
    engine = make_engine()

    def lost(chunks, before):
        raise torch.AcceleratorError("device lost\nmore")

    calls = [Call(engine, [n], max_tokens=900) for n in range(3)]
    calls[0].until(NewTokens)
    engine._runner.launch = lost
    for call in calls:
        assert isinstance(call.end().error, EngineUnavailable)
    with pytest.raises(EngineUnavailable):
        Call(engine, [1])
    with pytest.raises(EngineUnavailable, match="device lost"):
        engine.load()
    engine.close()


def test_close_lets_end_what_ends_in_time(make_engine):
    engine = make_engine()
    call = Call(engine, [1], max_tokens=5)
    engine.close(drain_s=60)
    assert call.end().finish_reason == "length"
    with pytest.raises(EngineUnavailable):
        Call(engine, [1])


def test_close_cancels_what_does_not(make_engine):
    engine = make_engine()
    launch = engine._runner.launch
    engine._runner.launch = lambda chunks, before: (
        time.sleep(0.02) or launch(chunks, before)
    )  # 1000 tokens take 20 s at least
    call = Call(engine, [2], max_tokens=1000)
    call.until(NewTokens)
    engine.close(drain_s=0.1)
    assert call.end().finish_reason == "cancelled"


def test_close_ends_what_a_hanging_step_holds(make_engine, monkeypatch):
    monkeypatch.setattr(native, "CLOSE_TIMEOUT_S", 0.1)
    engine = make_engine()
    entered, released = threading.Event(), threading.Event()
    launch = engine._runner.launch

    def hanging(chunks, before):
        entered.set()
        released.wait(30)
        return launch(chunks, before)

    engine._runner.launch = hanging
    call = Call(engine, [1])
    entered.wait(30)
    engine.close()
    assert isinstance(call.end().error, EngineUnavailable)
    released.set()
    engine._thread.join(30)
    assert call.events.empty(), "nothing may follow the terminal event"


def test_stop_strings_without_a_watcher_are_refused(engine):
    with pytest.raises(InvalidRequest) as refused:
        Call(engine, [1], stop=["x"])
    assert refused.value.param == "stop"


def test_submit_and_cancel_from_many_threads(engine):
    ends = []

    def client(seed):
        for n in range(6):
            call = Call(engine, [seed, n, 3], max_tokens=12)
            if n % 3 == 0:
                engine.cancel(call.id)
            ends.append(call.end().finish_reason)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ends) == 36
    assert set(ends) <= {"length", "cancelled"}
    wait_until(lambda: idle(engine))
    engine._scheduler.pool.check()


# --------------------------------------------------------------------- checkpoints that cannot be served


def broken(source, target, change):
    shutil.copytree(source, target)
    change(target)
    return target


def edit_config(**changes):
    def change(directory):
        path = directory / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: (d / "config.json").unlink(), "config.json does not exist"),
        (lambda d: (d / "config.json").write_text("{"), "cannot be read"),
        (edit_config(model_type="llama"), "gpt_oss only"),
        (edit_config(quantization_config={"quant_method": "awq"}), "awq"),
        (edit_config(hidden_size=32), "asks for"),
        (lambda d: (d / "model.safetensors").unlink(), "holds neither"),
        (lambda d: (d / "model.safetensors").write_bytes(b"junk"), "cannot be read"),
        (edit_config(num_hidden_layers=5, layer_types=None), "no tensor"),
        (edit_config(num_hidden_layers=5), "contradicts itself"),
        (edit_config(num_experts_per_tok=99), "contradicts itself"),
        (edit_config(rope_scaling="yes", rope_parameters=None), "wrong form"),
    ],
)
def test_a_broken_checkpoint_gives_one_readable_error(checkpoint, tmp_path, change, words):
    directory = broken(checkpoint("bf16"), tmp_path / "broken", change)
    with pytest.raises(ConfigurationError, match=words):
        NativeEngine.from_settings(EngineSettings(**SETTINGS), directory)


@pytest.mark.parametrize("settings", [{"gpu_mode": "tensor"}, {"device": "cuda:99"}, {"kv_cache_gib": 1e-9}])
def test_settings_that_cannot_be_served_are_refused(checkpoint, settings):
    with pytest.raises(ConfigurationError):
        NativeEngine.from_settings(EngineSettings(**{**SETTINGS, **settings}), checkpoint("fp32"))


# ------------------------------------------------------------------------------------------------ dtype


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), "float16"), ((8, 0), "bfloat16"), ((9, 0), "bfloat16")]
)
def test_dtype_follows_the_compute_capability(checkpoint, monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    config = ModelConfig.from_checkpoint(checkpoint("bf16"))
    assert runner._dtype(EngineSettings(), config, torch.device("cuda")) == getattr(torch, dtype)
    assert runner._dtype(EngineSettings(dtype="float32"), config, torch.device("cuda")) == torch.float32


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("mxfp4", "bfloat16")]
)
def test_dtype_on_a_cpu_is_the_checkpoints(checkpoint, name, dtype):
    config = ModelConfig.from_checkpoint(checkpoint(name))
    assert runner._dtype(EngineSettings(), config, torch.device("cpu")) == getattr(torch, dtype)


def test_float16_answers_like_float32(make_engine, engine):
    half = make_engine("fp32", dtype="float16")
    prompt = list(range(40))
    assert half.load().dtype == "float16"
    assert greedy(half, prompt, 4) == greedy(engine, prompt, 4)
    half.close()
