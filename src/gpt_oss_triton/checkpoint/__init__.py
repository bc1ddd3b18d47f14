"""Makes gpt-oss checkpoints with random weights: `python -m gpt_oss_triton.checkpoint --help`."""

from gpt_oss_triton.checkpoint.build import build_checkpoint
from gpt_oss_triton.checkpoint.shapes import SHAPES, Shape

__all__ = ["SHAPES", "Shape", "build_checkpoint"]
