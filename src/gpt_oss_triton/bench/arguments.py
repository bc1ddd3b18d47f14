"""What the benchmarks' command line takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from gpt_oss_triton.checkpoint.shapes import SHAPES

EXAMPLES = """examples:
  scripts/make-checkpoint --shape bench --dtype mxfp4 --out /tmp/bench
  scripts/bench engine --checkpoint /tmp/bench          the engine alone, in this process
  scripts/bench engine --shape 20b                      all about a model of that size, with random weights
  scripts/bench growth --checkpoint /tmp/bench          how cost grows: tables and a figure, with the machine's limit
  scripts/bench interference --checkpoint /tmp/bench    running streams while a long prompt is computed beside them
  scripts/bench http --url http://127.0.0.1:8000/v1     whatever listens there, streamed
  scripts/bench overhead --checkpoint /tmp/bench        the same requests through both, by turns: HTTP's share
  scripts/bench overload --multiples 0.8 1 2 4 10       more than it can serve: who gets what, and how soon
  scripts/bench overload --flood 10 --keys keys.txt     one API key of many floods it
  scripts/bench replay --url http://127.0.0.1:8000/v1   conversations over several turns, as `http` asks single questions

Each row is one JSON line; the last one holds the medians, if there are several. Compare two things side by
side in one sitting and quote their ratio: machines drift."""

GROWTH = """Measures the native engine alone, in this process, three ways:

  output tokens/s by streams       prompts of --prompt-words, answers of 64 tokens, in a closed loop
  time to first token by prompt    one prompt at a time, none of it cached
  step time by context             --step-streams sequences that decode together

The limit beside each is what this machine allows at best: bytes that must be read over the bandwidth of memory, or
multiply-adds over those of large matrix products, whichever takes longer. Both rates are measured first. The engine
does not speculate here. Its other settings come from GPT_OSS_ variables, the device among them.

Tables go to standard output; growth.json (all figures), growth.md and growth.svg to --out. Let nothing else run."""

UP_TO_16K = [128, 256, 512, 1024, 2048, 4096, 8192, 16384]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "scripts/bench",
        description="Measure output tokens/s, time to first token and gaps between tokens.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    workload, address = _workload(), _address()
    _add_engine(kinds.add_parser("engine", parents=[workload], help="the engine alone, in this process"))
    _add_growth(kinds)
    http = kinds.add_parser("http", parents=[workload, address], help="an OpenAI-compatible endpoint")
    http.add_argument("--completions", action="store_true", help="use /completions instead of chat")
    _add_interference(kinds)
    _add_overhead(
        kinds.add_parser(
            "overhead", parents=[_workload(10), address], help="an endpoint and the engine alone, by turns"
        )
    )
    replay = kinds.add_parser("replay", parents=[address], help="conversations: how much of them is cached")
    _add_numbers(
        replay,
        ("--conversations", 16, "how many there are"),
        ("--turns", 5, "of each"),
        ("--system-words", 50, "of the instructions, which all have in common"),
        ("--words", 100, "of each question"),
        ("--output-tokens", 32, "of each answer"),
        ("--streams", 4, "conversations that wait for an answer at the same time"),
        ("--seed", 0, "of the conversations: another one is new to a prefix cache"),
    )
    _add_overload(kinds.add_parser("overload", parents=[address], help="an endpoint under too many requests"))
    return parser.parse_args(argv)


def _add_numbers(parser: argparse.ArgumentParser, *options: tuple[str, int, str]) -> None:
    for option, default, what in options:
        parser.add_argument(option, type=int, default=default, help=f"{what} ({default})")


def _workload(repeat: int = 3) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "--streams", type=int, nargs="+", help="concurrent callers (1 8 32; with --shape 1 2 4 … 64)"
    )
    _add_numbers(
        parser,
        ("--prompt-words", 200, "of each request"),
        ("--shared-words", 0, "leading words that all prompts share"),
        ("--output-tokens", 64, "of each answer"),
        ("--seed", 0, "of the prompts: another one is new to a prefix cache"),
        ("--repeat", repeat, "how often each number of streams is measured"),
    )
    return parser


def _address() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--model", default="gpt-oss-20b")
    parser.add_argument("--key", help="API key")
    return parser


def _add_engine(parser: argparse.ArgumentParser) -> None:
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--checkpoint", type=Path)
    weights.add_argument(
        "--shape", choices=list(SHAPES), help="a random checkpoint of this size, and everything about it"
    )
    parser.add_argument(
        "--dtype", choices=["mxfp4", "bf16", "fp32"], default="mxfp4", help="of --shape (mxfp4)"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        help="where --shape makes its checkpoint, 14 GB for 20b, 65 GB for 120b (temporary)",
    )
    parser.add_argument(
        "--prompt-tokens", type=int, nargs="+", default=[128, 512, 2048, 8192],
        help="of the prompts whose time to first token --shape measures (128 512 2048 8192)",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="CPU threads of a step (all cores)")


def _add_overhead(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", type=Path, required=True, help="what the server at --url has loaded")
    parser.add_argument("--threads", type=int, help="CPU threads of the engine alone (all cores)")


def _add_growth(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "growth",
        help="how cost grows with streams, prompt and context",
        description=GROWTH,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("growth"), help="a directory for its files (growth)")
    for option, default, what in (
        ("--streams", [1, 2, 4, 8, 16, 32, 64], "concurrent callers"),
        ("--prompt-tokens", UP_TO_16K, "of the prompts whose time to first token is measured"),
        ("--contexts", UP_TO_16K, "tokens before the steps that are timed"),
        ("--step-streams", [1, 8], "sequences in those steps"),
    ):
        said = " ".join(map(str, default))
        parser.add_argument(option, type=int, nargs="+", default=default, help=f"{what} ({said})")
    _add_numbers(parser, ("--prompt-words", 200, "of the callers' requests"))
    _add_numbers(parser, ("--repeat", 3, "how often each point is measured; its median counts"))
    parser.add_argument("--threads", type=int, help="CPU threads of a step (all cores)")


def _add_interference(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "interference",
        help="gaps between tokens of running streams, while a long prompt is computed beside them",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, help="the engine alone, in this process")
    what.add_argument("--url", help="an OpenAI-compatible endpoint, ending in /v1")
    parser.add_argument("--model", default="gpt-oss-20b", help="at --url (gpt-oss-20b)")
    parser.add_argument("--key", help="API key for --url")
    parser.add_argument(
        "--completions", action="store_true", help="use /completions at --url instead of chat"
    )
    _add_numbers(
        parser,
        ("--streams", 8, "that run"),
        ("--prompt-words", 100, "of their prompts"),
        ("--long-words", 8192, "of the prompt beside them"),
        ("--max-tokens", 2048, "of each stream, which must not end before"),
        ("--seed", 0, "of the prompts: another one is new to a prefix cache"),
        ("--repeat", 3, "how often it is measured"),
    )
    parser.add_argument("--threads", type=int, help="CPU threads of a step, with --checkpoint (all cores)")


def _add_overload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--multiples", type=float, nargs="+", default=[0.5, 0.8, 1, 2, 4, 10], help="of the capacity"
    )
    parser.add_argument("--flood", type=float, help="the first of --keys sends at this multiple instead")
    parser.add_argument("--normal", type=float, default=0.8, help="multiple that its other keys share (0.8)")
    parser.add_argument("--keys", type=Path, help="file of API keys, one a line")
    parser.add_argument("--capacity", type=float, help="requests/s (measured)")
    _add_numbers(
        parser,
        ("--streams", 64, "clients that measure the capacity"),
        ("--prompt-words", 200, "of each request"),
        ("--output-tokens", 64, "of the mean answer"),
        ("--warm-up", 15, "seconds of each measurement that do not count"),
        ("--seconds", 45, "seconds of each measurement that do"),
        ("--seed", 0, "of the arrivals and prompts"),
    )
    parser.add_argument(
        "--obey", type=float, default=0.02, help="share of the refused that come back when told to (0.02)"
    )
