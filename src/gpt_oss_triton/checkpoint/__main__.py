"""`python -m gpt_oss_triton.checkpoint`: write a checkpoint with random weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpt_oss_triton.checkpoint.build import build_checkpoint
from gpt_oss_triton.checkpoint.progress_line import write_with_progress
from gpt_oss_triton.checkpoint.shapes import SHAPES
from gpt_oss_triton.checkpoint.weights import DTYPES

_DESCRIPTION = """\
Write a gpt-oss checkpoint with random weights, in the layout that is published on Hugging Face.

It serves, benchmarks and tests everything that does not need good answers: the sizes, the packing, the
tokenizer and the speed are the real model's, the text is noise.
"""
_EPILOG = """\
shapes                               size on disk   mxfp4     bf16     fp32
  tiny    tests; the full vocabulary                 0.1       0.1      0.1 GB
  bench   measuring on a CPU                         0.5       0.7      1.3 GB
  20b     the size of openai/gpt-oss-20b            13.8      41.8     83.7 GB
  120b    the size of openai/gpt-oss-120b           65.2     233.7    467.3 GB

examples
  make a small checkpoint for a test:
    %(prog)s --shape tiny --dtype fp32 --out /tmp/tiny
  the same weights, packed as the published models are:
    %(prog)s --shape tiny --dtype mxfp4 --out /tmp/tiny-mxfp4
  the real size, to measure a GPU:
    %(prog)s --shape 20b --out checkpoints/gpt-oss-20b
"""


def main(arguments: list[str] | None = None) -> int:
    """The command line. Returns the exit status; argparse exits with 2 on bad usage."""
    parser = argparse.ArgumentParser(
        prog="make-checkpoint",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--shape", choices=list(SHAPES), required=True, help="the model's size, see below")
    parser.add_argument(
        "--dtype",
        choices=list(DTYPES),
        default="mxfp4",
        help="mxfp4: experts packed to 4.25 bits, the rest bf16, as published (default)",
    )
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal weights in every dtype")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to make")
    parser.add_argument("--force", action="store_true", help="replace the checkpoint that stands at DIR")
    args = parser.parse_args(arguments)
    return write_with_progress(
        parser.prog,
        args.out,
        lambda progress: build_checkpoint(
            args.shape, args.dtype, args.seed, args.out, progress, force=args.force
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
