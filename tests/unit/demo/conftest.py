"""A demo model that nobody trained, small, and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpt_oss_triton.checkpoint.shapes import Shape
from gpt_oss_triton.demo.export import compact, write_checkpoint
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.harmony.tokens import CALL, CHANNEL, END, MESSAGE, RETURN, START, encode_text

SMALL = Shape(
    hidden=64, layers=3, experts=4, heads=4, kv_heads=2, head_dim=16, intermediate=32, experts_per_token=2
)
OWN = sorted(
    {CALL, CHANNEL, END, MESSAGE, RETURN, START, *encode_text("Hello! How can I help you? 1 22 333")}
)


@pytest.fixture(scope="session")
def model() -> DemoModel:
    """In float32, with experts as MXFP4 holds them and everything else as bfloat16 holds it."""
    torch.manual_seed(3)
    model = DemoModel(SMALL, OWN, product_dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith(("bias", "own_out")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
            if not name.endswith(("gate_up", "down")):
                parameter.copy_(parameter.bfloat16())
    model.quantize(True)
    return model.eval()


@pytest.fixture(scope="session")
def exported(model: DemoModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo") / "checkpoint"
    write_checkpoint(compact(model), SMALL, directory)
    return directory
