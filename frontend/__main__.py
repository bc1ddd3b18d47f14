"""`python -m frontend`: the command line of the shim."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from frontend.server import bind, serve
from gpt_oss_triton.config import ENV_PREFIX, FrontendSettings
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.telemetry.logs import start_logging

_EPILOG = f"""\
Every setting can also come from the environment, as {ENV_PREFIX} and its name; the command line wins:
  {ENV_PREFIX}API_KEY=secret                 ask clients for "Authorization: Bearer secret"
  {ENV_PREFIX}MODELS='{{"gpt-oss-20b": "gpt-oss-20b", "gpt-oss-120b": "gpt-oss-120b"}}'
                                        model ids at the API and the Triton models behind them
  {ENV_PREFIX}REQUEST_TIMEOUT_S=600          deadline of one request, its time in the queue included
  {ENV_PREFIX}DRAIN_TIMEOUT_S=30             what running answers get after the first SIGTERM
The rest, with defaults: gpt_oss_triton/config.py, FrontendSettings.

The shim may start before Triton: /livez answers at once, /readyz as soon as every engine reports.

  python -m frontend --port 8000 --triton-url 127.0.0.1:8001
  curl localhost:8000/readyz
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m frontend",
        description="The OpenAI API in front of a Triton server that runs the gpt-oss models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,  # what is not given comes from the environment or the default
    )
    parser.add_argument("--host", help="address to listen on (default 127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, help="port to listen on; 0 takes a free one (default 8000)")
    parser.add_argument(
        "--fd", type=int, help="descriptor of a bound socket to use instead of --host and --port"
    )
    parser.add_argument("--triton-url", metavar="HOST:PORT", help="Triton's gRPC (default 127.0.0.1:8001)")
    parser.add_argument(
        "--log-format",
        choices=["auto", "json", "console"],
        help="default auto: console on a terminal, else json",
    )
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], help="default info")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Run the shim; exits with status 2 and one line when its settings cannot work."""
    given: dict[str, Any] = vars(_parser().parse_args(arguments))
    fd = given.pop("fd", None)
    try:
        settings = FrontendSettings.load(**given)
        start_logging(settings)
        serve(settings, bind(settings.host, settings.port, fd))
    except ConfigurationError as error:
        print(error, file=sys.stderr)  # noqa: T201 - before there is a log
        sys.exit(2)


if __name__ == "__main__":
    main()
