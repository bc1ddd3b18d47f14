"""`python -m gpt_oss_triton.demo`: write the committed demo model as a checkpoint."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from gpt_oss_triton.checkpoint.__main__ import ProgressLine
from gpt_oss_triton.demo.packed import expand
from gpt_oss_triton.errors import ConfigurationError


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status; argparse exits with 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="gpt_oss_triton.demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to make")
    args = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that partial files go
    progress = ProgressLine()
    try:
        expand(args.out, progress.show)
    except (ConfigurationError, OSError) as error:
        progress.end(f"demo model: {error}")
        return 1
    except KeyboardInterrupt:
        progress.end("demo model: interrupted; nothing was written")
        return 128 + signal.SIGINT
    progress.end(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
