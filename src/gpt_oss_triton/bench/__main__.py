"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from functools import partial
from pathlib import Path

from gpt_oss_triton.bench.workload import Workload, repeat
from gpt_oss_triton.checkpoint.shapes import SHAPES

EXAMPLES = """examples:
  scripts/make-checkpoint --shape bench --dtype mxfp4 --out /tmp/bench
  scripts/bench engine --checkpoint /tmp/bench          the engine alone, in this process
  scripts/bench engine --shape 20b                      all about a model of that size, with random weights
  scripts/bench http --url http://127.0.0.1:8000/v1     whatever listens there, streamed
  scripts/bench overload --multiples 0.8 1 2 4 10       more than it can serve: who gets what, and how soon
  scripts/bench overload --flood 10 --keys keys.txt     one API key of many floods it
  scripts/bench replay --url http://127.0.0.1:8000/v1   the same, with conversations over several turns

Each row is one JSON line; the last one holds the medians, if there are several. Compare two things side by
side in one sitting and quote their ratio: machines drift."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measure output tokens/s, time to first token and gaps between tokens.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--streams", type=int, nargs="+", help="concurrent callers (1 8 32; with --shape 1 2 4 … 64)"
    )
    common.add_argument("--prompt-words", type=int, default=200)
    common.add_argument(
        "--shared-words", type=int, default=0, help="leading words that all prompts share (0)"
    )
    common.add_argument("--output-tokens", type=int, default=64)
    common.add_argument(
        "--seed", type=int, default=0, help="of the prompts: another one is new to a prefix cache (0)"
    )
    common.add_argument(
        "--repeat", type=int, default=3, help="how often each number of streams is measured (3)"
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    engine = kinds.add_parser("engine", parents=[common], help="the engine alone, in this process")
    weights = engine.add_mutually_exclusive_group(required=True)
    weights.add_argument("--checkpoint", type=Path)
    weights.add_argument(
        "--shape", choices=list(SHAPES), help="a random checkpoint of this size, and everything about it"
    )
    engine.add_argument(
        "--dtype", choices=["mxfp4", "bf16", "fp32"], default="mxfp4", help="of --shape (mxfp4)"
    )
    engine.add_argument(
        "--scratch",
        type=Path,
        help="where --shape makes its checkpoint, 14 GB for 20b, 65 GB for 120b (temporary)",
    )
    engine.add_argument(
        "--prompt-tokens", type=int, nargs="+", default=[128, 512, 2048, 8192],
        help="of the prompts whose time to first token --shape measures (128 512 2048 8192)",
    )  # fmt: skip
    engine.add_argument("--threads", type=int, help="CPU threads of a step (all cores)")
    address = argparse.ArgumentParser(add_help=False)
    address.add_argument("--url", default="http://127.0.0.1:8000/v1")
    address.add_argument("--model", default="gpt-oss-20b")
    address.add_argument("--key", help="API key")
    http = kinds.add_parser("http", parents=[common, address], help="an OpenAI-compatible endpoint")
    http.add_argument("--completions", action="store_true", help="use /completions instead of chat")
    replay = kinds.add_parser("replay", parents=[address], help="conversations: how much of them is cached")
    for option, default, what in (
        ("--conversations", 16, "how many there are"),
        ("--turns", 5, "of each"),
        ("--system-words", 50, "of the instructions, which all have in common"),
        ("--words", 100, "of each question"),
        ("--output-tokens", 32, "of each answer"),
        ("--streams", 4, "conversations that wait for an answer at the same time"),
        ("--seed", 0, "of the conversations: another one is new to a prefix cache"),
    ):
        replay.add_argument(option, type=int, default=default, help=f"{what} ({default})")
    _add_overload(kinds.add_parser("overload", parents=[address], help="an endpoint under too many requests"))
    args = parser.parse_args(argv)
    if args.kind == "overload":
        _bench_overload(args)
        return
    if args.kind == "replay":
        _bench_replay(args)
        return

    workload = Workload(args.prompt_words, args.shared_words, args.output_tokens, seed=args.seed)
    args.streams = args.streams or ([1, 2, 4, 8, 16, 32, 64] if getattr(args, "shape", None) else [1, 8, 32])
    if args.kind == "engine" and args.shape:
        _bench_shape(args, workload)
    elif args.kind == "engine":
        _bench_engine(args, workload)
    else:
        from gpt_oss_triton.bench.http import Endpoint, measure_http

        endpoint = Endpoint(args.url, args.model, args.key, args.completions)
        measure_http(endpoint, Workload(args.prompt_words, 0, 8, rounds=1, seed=99), 2)  # warm-up
        repeat(partial(measure_http, endpoint, workload), args.streams, args.repeat)


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
    row = measure_replay(Endpoint(args.url, args.model, args.key), conversations)
    print(json.dumps(row), flush=True)  # noqa: T201


def _add_overload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--multiples", type=float, nargs="+", default=[0.5, 0.8, 1, 2, 4, 10], help="of the capacity"
    )
    parser.add_argument("--flood", type=float, help="the first of --keys sends at this multiple instead")
    parser.add_argument("--normal", type=float, default=0.8, help="multiple that its other keys share (0.8)")
    parser.add_argument("--keys", type=Path, help="file of API keys, one a line")
    parser.add_argument("--capacity", type=float, help="requests/s (measured)")
    for option, default, what in (
        ("--streams", 64, "clients that measure the capacity"),
        ("--prompt-words", 200, "of each request"),
        ("--output-tokens", 64, "of the mean answer"),
        ("--warm-up", 15, "seconds of each measurement that do not count"),
        ("--seconds", 45, "seconds of each measurement that do"),
        ("--seed", 0, "of the arrivals and prompts"),
    ):
        parser.add_argument(option, type=int, default=default, help=f"{what} ({default})")
    parser.add_argument(
        "--obey", type=float, default=0.02, help="share of the refused that come back when told to (0.02)"
    )


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


def _bench_engine(args: argparse.Namespace, workload: Workload) -> None:
    # Imported here: an HTTP measurement must not pay for torch.
    from gpt_oss_triton.bench.engine import measure_engine
    from gpt_oss_triton.config import EngineSettings
    from gpt_oss_triton.engine.native import NativeEngine

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    settings = EngineSettings(threads=args.threads, max_context=8192)
    engine = NativeEngine.from_settings(settings, args.checkpoint)
    measure_engine(engine, Workload(args.prompt_words, 0, 8, rounds=1, seed=99), 2)  # warm-up
    repeat(partial(measure_engine, engine, workload), args.streams, args.repeat)
    engine.close()


def _bench_shape(args: argparse.Namespace, workload: Workload) -> None:
    from gpt_oss_triton.bench.shape import measure_shape, random_checkpoint

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
    with random_checkpoint(args.shape, args.dtype, args.scratch) as directory:
        measure_shape(directory, args.streams, args.prompt_tokens, workload, args.threads)


if __name__ == "__main__":
    main()
