"""How cost grows with streams, with the prompt and with the context, beside what the machine could do at best.

The native engine alone, in this process. It does not speculate here: a guessed token has no reading of its own, so no
limit of this kind would hold for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import msgspec
import torch

from gpt_oss_triton.bench.engine import measure_engine, measure_prompt, random_prompt
from gpt_oss_triton.bench.machine_limit import Clock, Machine
from gpt_oss_triton.bench.model_work import ModelWork, Work
from gpt_oss_triton.bench.running_streams import RunningStreams, gaps
from gpt_oss_triton.bench.workload import Workload
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.runner import Runner
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.harmony.render import render_plain
from gpt_oss_triton.machine import available_cores

log = logging.getLogger(__name__)

STEPS = 32  # whose median is one measurement of a step
CHUNK = 128  # prompt tokens: a step of the engine computes more of them


class Point(msgspec.Struct):
    """
    Attributes:
        at: streams or tokens.
        work: of what is timed there.
    """

    at: int
    work: Work
    measured: list[float] = msgspec.field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.measured)


class Curve(msgspec.Struct):
    """
    Attributes:
        title: of all curves that belong into one panel; `label` tells them apart.
        rate: of tokens in a second, one for each of `Point.at`; otherwise milliseconds.
    """

    title: str
    label: str
    x: str
    y: str
    points: list[Point]
    rate: bool = False

    def limit(self, point: Point, machine: Machine) -> float:
        """The best that the machine allows, in the unit of what is measured."""
        seconds = machine.seconds(point.work)
        return point.at / seconds if self.rate else 1e3 * seconds

    def of_limit(self, point: Point, machine: Machine) -> float:
        """1 at the limit, less below it."""
        ratio = point.median / self.limit(point, machine)
        return ratio if self.rate else 1 / ratio


class Growth(msgspec.Struct):
    """Everything measured in one sitting."""

    checkpoint: str
    dtype: str
    machine: Machine
    curves: list[Curve]


class Plan(msgspec.Struct, frozen=True):
    """
    Attributes:
        streams: whose tokens/s are measured, with `workload`.
        prompts: tokens, of those whose time to first token is.
        contexts: tokens, of those whose step time is, with each of `step_streams` at once.
        rounds: how often each point is measured.
    """

    streams: list[int]
    prompts: list[int]
    contexts: list[int]
    step_streams: list[int]
    rounds: int
    workload: Workload = Workload()

    @property
    def step_room(self) -> int:
        """Tokens that a stream may have before all of them run and `STEPS` more are counted."""
        return max(self.step_streams) * -(-max(self.contexts) // CHUNK) + 2 * STEPS

    @property
    def max_context(self) -> int:
        words = 2 * self.workload.prompt_words + 256 + self.workload.output_tokens
        return max(*self.prompts, max(self.contexts) + self.step_room, words)


def measure_growth(directory: Path, plan: Plan, threads: int | None) -> Growth:
    """
    Raises:
        ConfigurationError: the checkpoint cannot be served, or the cache cannot hold what is to be measured.
    """
    threads = threads or available_cores()
    torch.set_num_threads(threads)
    settings = EngineSettings(
        threads=threads,
        max_context=plan.max_context,
        max_sequences=max(*plan.streams, *plan.step_streams),
        speculation="off",
        prefix_cache=True,
    )
    runner = Runner.from_checkpoint(directory, settings)
    clock = Clock(runner.device)
    machine = _machine(clock, runner.dtype)
    work = ModelWork.on_this_machine(runner.config, runner.dtype, runner.device)
    engine = NativeEngine(runner, settings, directory.name)
    try:
        _check_room(engine, plan)
        measure_engine(engine, plan.workload.warm_up, 2)
        curves = [
            _throughput(engine, work, plan),
            _first_token(engine, work, plan),
            *(_step(engine, work, plan, streams) for streams in plan.step_streams),
        ]
    finally:
        engine.close()
    # Before and after, lest a slow moment hides what is possible.
    machine = machine.better_of(_machine(clock, runner.dtype))
    return Growth(directory.name, str(runner.dtype).removeprefix("torch."), machine, curves)


def _machine(clock: Clock, dtype: torch.dtype) -> Machine:
    machine = Machine.measured(clock, dtype)
    log.info(
        "%s reads %.1f GB/s and does %.0f G multiply-adds/s of %s",
        machine.name, machine.bandwidth / 1e9, machine.products / 1e9, dtype,
    )  # fmt: skip
    return machine


def _check_room(engine: NativeEngine, plan: Plan) -> None:
    load = engine.load()
    needed = max(plan.step_streams) * (max(plan.contexts) + plan.step_room)
    if load.blocks_total * load.block_size < needed:
        raise ConfigurationError(
            f"The cache holds {load.blocks_total * load.block_size} tokens, and {max(plan.step_streams)} streams need "
            f"{needed}: raise GPT_OSS_KV_CACHE_GIB, or ask for shorter contexts."
        )


def _throughput(engine: NativeEngine, work: ModelWork, plan: Plan) -> Curve:
    workload = plan.workload
    prompt = len(render_plain(workload.prompts(1)[0]))

    def step(streams: int) -> Work:
        decodes = work.decode(streams, prompt + workload.output_tokens // 2)
        # In the long run a step computes its share of the next prompts too, beside the weights it reads anyway.
        prompts = work.prompt(prompt).products * streams / workload.output_tokens
        return Work(decodes.bytes, decodes.products + prompts)

    def measure(streams: int, round_number: int) -> float:
        return float(measure_engine(engine, workload, streams, round_number)["output_tokens_per_s"])

    curve = Curve(
        "output tokens/s by streams",
        "closed loop",
        "streams",
        "tokens/s",
        _points(plan.streams, step),
        rate=True,
    )
    return _measured(curve, measure, plan.rounds)


def _first_token(engine: NativeEngine, work: ModelWork, plan: Plan) -> Curve:
    curve = Curve(
        "time to first token by prompt", "1 stream", "prompt tokens", "ms",
        _points(plan.prompts, work.prompt),
    )  # fmt: skip
    return _measured(curve, lambda n, seed: 1e3 * measure_prompt(engine, random_prompt(n, seed)), plan.rounds)


def _step(engine: NativeEngine, work: ModelWork, plan: Plan, streams: int) -> Curve:
    """Contexts grow within a round, and each is the beginning of the next: the prefix cache has most of it."""
    longest = [random_prompt(max(plan.contexts), n) for n in range(streams)]

    def measure(context: int, _: int) -> float:
        with RunningStreams(engine, [prompt[:context] for prompt in longest], plan.step_room) as running:
            began = running.wait(STEPS + 1)
            return 1e3 * median(gaps(running.arrivals[0], began, time.perf_counter()))

    curve = Curve(
        "step time by context", f"{streams} stream{'s' * (streams > 1)}", "context tokens", "ms",
        _points(plan.contexts, lambda context: work.decode(streams, context)),
    )  # fmt: skip
    return _measured(curve, measure, plan.rounds)


def _points(at: list[int], work: Callable[[int], Work]) -> list[Point]:
    return [Point(n, work(n)) for n in at]


def _measured(curve: Curve, measure: Callable[[int, int], float], rounds: int) -> Curve:
    """All points in turn, `rounds` times, so that a slow minute of the machine does not spoil one of them."""
    for number in range(rounds):
        for point in curve.points:
            point.measured.append(measure(point.at, number))
            log.info(
                "%s, %s, round %d of %d: %d %s, %.4g %s",
                curve.title, curve.label, number + 1, rounds, point.at, curve.x, point.measured[-1], curve.y,
            )  # fmt: skip
    return curve
