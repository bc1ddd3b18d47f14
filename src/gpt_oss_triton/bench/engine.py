"""The engine alone, in this process: the upper bound for everything around it."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

from gpt_oss_triton.bench.rows import Row
from gpt_oss_triton.bench.workload import Answer, Workload, figures
from gpt_oss_triton.engine.protocol import (
    Engine,
    EngineEvent,
    EngineRequest,
    NewTokens,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.harmony.render import render_plain
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL
from gpt_oss_triton.wire import GenerationOptions


def measure_engine(engine: Engine, workload: Workload, streams: int, round_number: int = 0) -> Row:
    """One row of figures for `streams` concurrent callers."""
    prompts = [render_plain(text) for text in workload.prompts(streams, round_number)]
    options = GenerationOptions(temperature=0, max_tokens=workload.output_tokens, ignore_eos=True)
    number = iter(range(len(prompts)))
    lock = threading.Lock()
    answers: list[Answer] = []

    def caller() -> None:
        while True:
            with lock:
                n = next(number, None)
            if n is None:
                return
            answer = _ask(engine, EngineRequest(f"{streams}-{n}-{time.time_ns()}", prompts[n], options))
            with lock:
                answers.append(answer)

    began = time.perf_counter()
    with ThreadPoolExecutor(streams) as pool:
        callers = [pool.submit(caller) for _ in range(streams)]
    for one in callers:
        one.result()  # a caller that failed must not look like a fast one
    return figures(streams, answers, time.perf_counter() - began)


def measure_prompt(engine: Engine, prompt: list[int]) -> float:
    """Seconds to the first token behind `prompt`, with nothing else running.

    Raises:
        RuntimeError: there was none.
    """
    options = GenerationOptions(temperature=0, max_tokens=1, ignore_eos=True)
    answer = _ask(engine, EngineRequest(f"prompt-{time.time_ns()}", prompt, options))
    if answer.error is not None:
        raise RuntimeError(answer.error)
    return answer.arrivals[0]


def random_prompt(tokens: int, seed: int) -> list[int]:
    """Text, no control tokens. One of another seed or length shares no prefix with it."""
    rng = random.Random(f"{tokens}/{seed}")
    return [rng.randrange(FIRST_SPECIAL) for _ in range(tokens)]


def _ask(engine: Engine, request: EngineRequest) -> Answer:
    events: SimpleQueue[EngineEvent] = SimpleQueue()
    answer, began = Answer(), time.perf_counter()
    engine.submit(request, events.put)
    while True:
        event = events.get()
        if isinstance(event, NewTokens):
            answer.tokens += len(event.token_ids)
            answer.arrivals.append(time.perf_counter() - began)
        elif isinstance(event, SequenceFailed):
            answer.error = event.error.message
            return answer
        elif isinstance(event, SequenceFinished):
            return answer
