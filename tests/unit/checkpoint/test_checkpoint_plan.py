"""The tensors that would be written, at full size, against the model that transformers would fill with them."""

from __future__ import annotations

import pytest
import torch
from transformers import GptOssConfig, GptOssForCausalLM

from gpt_oss_triton.checkpoint.config_files import model_config
from gpt_oss_triton.checkpoint.shapes import SHAPES
from gpt_oss_triton.checkpoint.weights import plan

Shapes = dict[str, tuple[int, ...]]


def _expected(shape: str) -> Shapes:
    with torch.device("meta"):
        model = GptOssForCausalLM(GptOssConfig(**model_config(SHAPES[shape], "bf16")))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def _packed(expected: Shapes) -> Shapes:
    """The names and shapes that the published MXFP4 files have for a model of these shapes."""
    packed: Shapes = {}
    for name, shape in expected.items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, inputs, outputs = shape
            packed[name + "_blocks"] = (experts, outputs, inputs // 32, 16)
            packed[name + "_scales"] = (experts, outputs, inputs // 32)
        else:
            packed[name] = shape
    return packed


@pytest.mark.parametrize("shape", list(SHAPES))
def test_names_and_shapes_are_transformers(shape: str) -> None:
    expected = _expected(shape)
    sizes = SHAPES[shape]
    assert {t.name: t.shape for t in plan(sizes, "bf16", 0)} == expected
    assert {t.name: t.shape for t in plan(sizes, "mxfp4", 0)} == _packed(expected)


@pytest.mark.parametrize("dtype", ["bf16", "mxfp4", "fp32"])
def test_types(dtype: str) -> None:
    float_type = torch.float32 if dtype == "fp32" else torch.bfloat16
    for tensor in plan(SHAPES["20b"], dtype, 0):
        packed = tensor.name.endswith(("_blocks", "_scales"))
        assert tensor.dtype == (torch.uint8 if packed else float_type), tensor.name


@pytest.mark.parametrize(("shape", "gigabytes", "count"), [("20b", 13.76, 459), ("120b", 65.25, 687)])
def test_size_is_the_published_one(shape: str, gigabytes: float, count: int) -> None:
    tensors = plan(SHAPES[shape], "mxfp4", 0)
    assert len(tensors) == count
    assert sum(tensor.nbytes for tensor in tensors) / 1e9 == pytest.approx(gigabytes, abs=0.01)


def test_real_size_weights_have_trained_magnitudes() -> None:
    """One expert of 20b: unit gain, which a std of 1 / sqrt(2880) = 0.0186 gives, in every row."""
    tensors = {tensor.name: tensor for tensor in plan(SHAPES["20b"], "bf16", 0)}
    expert = next(tensors["model.layers.3.mlp.experts.gate_up_proj"].chunks()).float()
    assert expert.shape == (1, 2880, 5760)
    assert expert.std().item() == pytest.approx(2880**-0.5, rel=0.02)
    assert expert.mean().item() == pytest.approx(0, abs=1e-4)
    assert expert[0].std(0).min() > 0.015
