"""`python -m gpt_oss_triton.demo`: write the committed demo model as a checkpoint."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpt_oss_triton.checkpoint.progress_line import write_with_progress
from gpt_oss_triton.demo.packed import expand


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status; argparse exits with 2 on bad usage."""
    parser = argparse.ArgumentParser(prog="demo model", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to make")
    args = parser.parse_args(arguments)
    return write_with_progress(parser.prog, args.out, lambda progress: expand(args.out, progress))


if __name__ == "__main__":
    sys.exit(main())
