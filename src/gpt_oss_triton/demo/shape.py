"""The demo model's sizes."""

from __future__ import annotations

from gpt_oss_triton.checkpoint.shapes import Shape

DEMO_SHAPE = Shape(
    hidden=256,
    layers=8,
    experts=8,
    heads=4,
    kv_heads=2,
    head_dim=64,
    intermediate=256,
    experts_per_token=2,
)
