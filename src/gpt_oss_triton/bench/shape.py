"""All about a model of some size on this machine, by one command: `scripts/bench engine --shape 20b`.

Weights are random, of the real shapes and packing, so times are the real model's and words are noise. Printed as
JSON lines: the machine's limit, each operation by itself, output tokens/s by streams, and the time to the first
token by the prompt's length. What the engine says of itself (memory, graphs and how long they took) is on standard
error.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import torch

from gpt_oss_triton.bench.engine import measure_engine, measure_prompt, random_prompt
from gpt_oss_triton.bench.machine_limit import Clock, device_name
from gpt_oss_triton.bench.model_work import ModelWork
from gpt_oss_triton.bench.operations import measure_operations
from gpt_oss_triton.bench.rows import say
from gpt_oss_triton.bench.workload import Workload
from gpt_oss_triton.checkpoint import build_checkpoint
from gpt_oss_triton.checkpoint.progress_line import ProgressLine
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.runner import Runner
from gpt_oss_triton.machine import available_cores

OPERATION_SEQUENCES = [1, 8, 64]
ANSWER_ROOM = 512  # tokens of context beyond the longest prompt
PROMPT_ROUNDS = 3


@contextmanager
def random_checkpoint(shape: str, dtype: str, scratch: Path | None) -> Iterator[Path]:
    """Made in `scratch`, or where temporary files go; gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="gpt-oss-bench-", dir=scratch) as place:
        directory = Path(place) / f"{shape}-{dtype}"
        progress = ProgressLine()
        build_checkpoint(shape, dtype, 0, directory, progress.show)
        progress.end(f"made a random checkpoint of {shape}")
        yield directory


def measure_shape(
    directory: Path, streams: list[int], prompt_tokens: list[int], workload: Workload, threads: int | None
) -> None:
    """Measure and print everything about a checkpoint."""
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    settings = EngineSettings(
        threads=threads,
        max_context=max(*prompt_tokens, 2 * workload.prompt_words + workload.output_tokens) + ANSWER_ROOM,
        max_sequences=max(streams),
    )
    runner = Runner.from_checkpoint(directory, settings)
    device, dtype = runner.device, runner.dtype
    clock = Clock(device)
    limit = clock.bandwidth()
    say({
        "checkpoint": directory.name, "device": device_name(device), "dtype": str(dtype),
        "read_limit_gb_per_s": round(limit / 1e9, 1),
    })  # fmt: skip
    work = ModelWork.on_this_machine(runner.config, dtype, device)
    engine = NativeEngine(runner, settings, directory.name)
    measure_engine(engine, workload.warm_up, 2)
    for count in streams:
        row = measure_engine(engine, workload, count)
        possible = limit / _bytes_per_token(work, workload, count)
        say({
            **row, "limit_tokens_per_s": round(possible, 1),
            "of_limit": round(float(row["output_tokens_per_s"]) / possible, 3),
        })  # fmt: skip
    for length in prompt_tokens:
        say({"prompt_tokens": length, "ttft_p50_ms": round(_time_to_first_token(engine, length) * 1e3, 1)})
    engine.close()
    runner.close()
    del engine, runner  # their memory is needed
    gc.collect()
    for figures in measure_operations(directory, clock, dtype, OPERATION_SEQUENCES, limit):
        say(figures)


def _bytes_per_token(work: ModelWork, workload: Workload, streams: int) -> float:
    context = workload.prompt_words + workload.output_tokens // 2  # a word of a workload is a token
    return work.decode(streams, context).bytes / streams


def _time_to_first_token(engine: NativeEngine, length: int) -> float:
    """Seconds; the median of several prompts, none of which another one's prefix helps."""
    return median(measure_prompt(engine, random_prompt(length, n)) for n in range(PROMPT_ROUNDS))
