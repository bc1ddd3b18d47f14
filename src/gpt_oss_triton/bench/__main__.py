"""Command line of the benchmarks. A measurement through HTTP must not pay for torch, hence the imports where they are
used."""

from __future__ import annotations

import argparse
import logging
import random
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gpt_oss_triton.bench.arguments import parse
from gpt_oss_triton.bench.rows import say
from gpt_oss_triton.bench.workload import Workload, repeat
from gpt_oss_triton.errors import ConfigurationError

if TYPE_CHECKING:
    from gpt_oss_triton.engine.native import NativeEngine


def main(argv: list[str] | None = None) -> None:
    """The command line. Ends the process with a line that says why where there is nothing to measure."""
    args = parse(argv)
    benches = {
        "engine": _bench_shape if getattr(args, "shape", None) else _bench_engine,
        "growth": _bench_growth,
        "http": _bench_http,
        "interference": _bench_interference,
        "overhead": _bench_overhead,
        "replay": _bench_replay,
        "overload": _bench_overload,
    }
    try:
        benches[args.kind](args)
    except (ConfigurationError, OSError) as error:  # no model, no file
        raise SystemExit(f"error: {error}") from None


def _workload(args: argparse.Namespace) -> Workload:
    return Workload(args.prompt_words, args.shared_words, args.output_tokens, seed=args.seed)


def _bench_engine(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.engine import measure_engine

    engine = _engine(args.checkpoint, args.threads, max_context=8192)
    measure_engine(engine, _workload(args).warm_up, 2)
    repeat(partial(measure_engine, engine, _workload(args)), args.streams or [1, 8, 32], args.repeat)
    engine.close()


def _engine(checkpoint: Path, threads: int | None, max_context: int) -> NativeEngine:
    from gpt_oss_triton.config import EngineSettings
    from gpt_oss_triton.engine.native import NativeEngine

    _log()
    return NativeEngine.from_settings(EngineSettings(threads=threads, max_context=max_context), checkpoint)


def _log() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")


def _bench_shape(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.shape import measure_shape, random_checkpoint

    _log()
    streams = args.streams or [1, 2, 4, 8, 16, 32, 64]
    with random_checkpoint(args.shape, args.dtype, args.scratch) as directory:
        measure_shape(directory, streams, args.prompt_tokens, _workload(args), args.threads)


def _bench_growth(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.growth import Plan, measure_growth
    from gpt_oss_triton.bench.growth_report import tables, write

    _log()
    workload = Workload(args.prompt_words)
    plan = Plan(args.streams, args.prompt_tokens, args.contexts, args.step_streams, args.repeat, workload)
    growth = measure_growth(args.checkpoint, plan, args.threads)
    sys.stdout.write(tables(growth))
    for path in write(growth, args.out):
        sys.stderr.write(f"wrote {path}\n")


def _bench_http(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.http import Endpoint, measure_http

    endpoint = Endpoint(args.url, args.model, args.key, args.completions)
    row = measure_http(endpoint, _workload(args).warm_up, 2)
    if not row["ok"]:
        raise SystemExit(f"error: no answer from {args.url}: {row['first_error']}")
    repeat(partial(measure_http, endpoint, _workload(args)), args.streams or [1, 8, 32], args.repeat)


def _bench_interference(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench import interference
    from gpt_oss_triton.bench.http import Endpoint

    neighbours = interference.Neighbours(
        args.streams, args.prompt_words, args.long_words, args.max_tokens, args.seed
    )
    if args.url:
        endpoint = Endpoint(args.url, args.model, args.key, args.completions)
        for n in range(args.repeat):
            say(interference.measure_http_interference(endpoint, neighbours, n))
        return
    longest = max(args.long_words, args.prompt_words + args.max_tokens)
    engine = _engine(args.checkpoint, args.threads, max_context=longest + 512)
    for n in range(args.repeat):
        say(interference.measure_engine_interference(engine, neighbours, n))
    engine.close()


def _bench_overhead(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.engine import measure_engine
    from gpt_oss_triton.bench.http import Endpoint, measure_http
    from gpt_oss_triton.bench.overhead import measure_overhead

    endpoint = Endpoint(args.url, args.model, args.key)
    engine = _engine(args.checkpoint, args.threads, max_context=8192)
    # The server may remember an earlier run's prompts, the engine alone cannot.
    workload = replace(_workload(args), seed=args.seed or random.randrange(1 << 32))
    for streams in args.streams or [1, 8, 32]:
        measure_http(endpoint, workload.warm_up, 2)
        measure_engine(engine, workload.warm_up, 2)
        try:
            say(measure_overhead(engine, endpoint, workload, streams, args.repeat, say))
        except RuntimeError as error:
            raise SystemExit(str(error)) from None
    engine.close()


def _bench_replay(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.http import Endpoint
    from gpt_oss_triton.bench.replay import Conversations, measure_replay

    conversations = Conversations(
        args.conversations,
        args.turns,
        args.system_words,
        args.words,
        args.output_tokens,
        args.streams,
        args.seed,
    )
    say(measure_replay(Endpoint(args.url, args.model, args.key), conversations))


def _bench_overload(args: argparse.Namespace) -> None:
    from gpt_oss_triton.bench.open_loop import Requests
    from gpt_oss_triton.bench.overload import Plan, measure_flood, measure_multiples

    requests = Requests(args.model, args.prompt_words, args.output_tokens)
    plan = Plan(
        args.url, requests, args.streams, args.warm_up, args.seconds, args.obey, args.capacity, args.seed
    )
    if args.flood is None:
        measure_multiples(plan, args.multiples, args.key)
    elif args.keys is None:
        raise SystemExit("--flood needs --keys")
    else:
        measure_flood(plan, args.keys.read_text().split(), args.flood, args.normal)


if __name__ == "__main__":
    main()
