"""Command line of the benchmarks."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from pathlib import Path

from gpt_oss_triton.bench.workload import Workload, repeat

EXAMPLES = """examples:
  scripts/make-checkpoint --shape bench --dtype mxfp4 --out /tmp/bench
  scripts/bench engine --checkpoint /tmp/bench          the engine alone, in this process
  scripts/bench http --url http://127.0.0.1:8000/v1     whatever listens there, streamed

Each row is one JSON line; the last one holds the medians. Compare two things side by side in one sitting and
quote their ratio: machines drift."""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measure output tokens/s, time to first token and gaps between tokens.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--streams", type=int, nargs="+", default=[1, 8, 32], help="concurrent callers (1 8 32)"
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
    engine.add_argument("--checkpoint", type=Path, required=True)
    engine.add_argument("--threads", type=int, help="CPU threads of a step (all cores)")
    http = kinds.add_parser("http", parents=[common], help="an OpenAI-compatible endpoint")
    http.add_argument("--url", default="http://127.0.0.1:8000/v1")
    http.add_argument("--model", default="gpt-oss-20b")
    http.add_argument("--key", help="API key")
    http.add_argument("--completions", action="store_true", help="use /completions instead of chat")
    args = parser.parse_args(argv)

    workload = Workload(args.prompt_words, args.shared_words, args.output_tokens, seed=args.seed)
    if args.kind == "engine":
        _bench_engine(args, workload)
    else:
        from gpt_oss_triton.bench.http import Endpoint, measure_http

        endpoint = Endpoint(args.url, args.model, args.key, args.completions)
        measure_http(endpoint, Workload(args.prompt_words, 0, 8, rounds=1, seed=99), 2)  # warm-up
        repeat(partial(measure_http, endpoint, workload), args.streams, args.repeat)


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


if __name__ == "__main__":
    main()
