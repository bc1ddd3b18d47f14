"""The sizes of the models that can be made: the two published ones, one to measure on a CPU, one for tests."""

from __future__ import annotations

from dataclasses import dataclass

from gpt_oss_triton.options import VOCABULARY


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of one gpt-oss model. `hidden` and `intermediate` are multiples of 32, the MXFP4 block."""

    hidden: int
    layers: int
    experts: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    experts_per_token: int = 4
    vocabulary: int = VOCABULARY
    sliding_window: int = 128  # tokens


SHAPES = {
    "tiny": Shape(hidden=64, layers=4, experts=8, heads=8, kv_heads=2, head_dim=16, intermediate=64),
    "bench": Shape(hidden=512, layers=8, experts=16, heads=16, kv_heads=2, head_dim=64, intermediate=512),
    "20b": Shape(hidden=2880, layers=24, experts=32, heads=64, kv_heads=8, head_dim=64, intermediate=2880),
    "120b": Shape(hidden=2880, layers=36, experts=128, heads=64, kv_heads=8, head_dim=64, intermediate=2880),
}
