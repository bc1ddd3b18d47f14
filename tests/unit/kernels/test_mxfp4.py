"""The MXFP4 reference against transformers' own unpacking, against brute force, and against itself."""

from __future__ import annotations

import pytest
import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from gpt_oss_triton.kernels.mxfp4 import BLOCK, E2M1, dequantize, encode, quantize


def _every_byte_at_every_scale() -> tuple[torch.Tensor, torch.Tensor]:
    """One expert of 255 rows, a row for each scale that is a number; each row holds all 256 bytes."""
    blocks = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 255, 16, 16).contiguous()
    scales = torch.arange(255, dtype=torch.uint8).view(1, 255, 1).expand(1, 255, 16).contiguous()
    return blocks, scales


def _bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view({2: torch.int16, 4: torch.int32}[values.dtype.itemsize])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_equals_transformers_bit_for_bit(dtype: torch.dtype) -> None:
    blocks, scales = _every_byte_at_every_scale()
    ours = dequantize(blocks, scales, dtype)
    assert ours.shape == (1, 255, 512)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=dtype)  # [experts, inputs, outputs]
    assert torch.equal(_bits(ours.transpose(1, 2)), _bits(theirs))


def test_equals_transformers_on_experts() -> None:
    generator = torch.Generator().manual_seed(0)
    blocks = torch.randint(0, 256, (3, 40, 2, 16), generator=generator, dtype=torch.uint8)
    scales = torch.randint(110, 130, (3, 40, 2), generator=generator, dtype=torch.uint8)
    theirs = convert_moe_packed_tensors(blocks, scales, dtype=torch.bfloat16)
    assert torch.equal(dequantize(blocks, scales, torch.bfloat16).transpose(1, 2), theirs)


def test_float16_is_rounded_once() -> None:
    blocks, scales = _every_byte_at_every_scale()
    expected = dequantize(blocks, scales, torch.float32).to(torch.float16)
    assert torch.equal(_bits(dequantize(blocks, scales, torch.float16)), _bits(expected))


def test_low_nibble_comes_first() -> None:
    blocks = torch.zeros(1, 1, 16, dtype=torch.uint8)
    blocks[0, 0, 0] = 0xF2  # code 2 is 1.0, code 15 is -6.0
    weight = dequantize(blocks, torch.full((1, 1), 128, dtype=torch.uint8), torch.float32)
    assert weight[0, :3].tolist() == [2.0, -12.0, 0.0]


def test_scale_255_is_nan() -> None:
    blocks = torch.zeros(1, 2, 16, dtype=torch.uint8)
    weight = dequantize(blocks, torch.tensor([[255, 254]], dtype=torch.uint8), torch.float32)
    assert weight[0, :BLOCK].isnan().all()
    assert (weight[0, BLOCK:] == 0).all()


def test_encode_takes_the_nearest_value_and_ties_to_the_even_code() -> None:
    grid = torch.tensor(E2M1, dtype=torch.float64)
    values = torch.arange(0, 8, 1 / 64, dtype=torch.float64)
    distances = (values[:, None] - grid).abs()
    tied = distances == distances.amin(-1, keepdim=True)
    even = torch.arange(8) % 2 == 0
    expected = (tied * (1 + even.int())).argmax(-1)  # of two equally near codes the even one
    assert encode(values).tolist() == expected.tolist()
    assert encode(-values).tolist() == (expected + 8).tolist()


def test_scale_is_the_power_of_two_below_the_largest_magnitude_over_four() -> None:
    for largest, scale in ((4.0, 127), (7.99, 127), (8.0, 128), (3.99, 126), (0.01, 118), (0.0, 0)):
        weight = torch.zeros(1, BLOCK)
        weight[0, 5] = -largest
        assert quantize(weight)[1].item() == scale, largest


@pytest.mark.parametrize("magnitude", [1e-38, 1e-6, 0.02, 1.0, 1e6, 1e36])
def test_quantize_is_idempotent(magnitude: float) -> None:
    weight = torch.randn(2, 24, 96, generator=torch.Generator().manual_seed(1)) * magnitude
    blocks, scales = quantize(weight)
    again = quantize(dequantize(blocks, scales, torch.float32))
    assert torch.equal(again[0], blocks)
    assert torch.equal(again[1], scales)


def test_whatever_is_unpacked_comes_back_with_the_same_values() -> None:
    blocks, scales = _every_byte_at_every_scale()
    weight = dequantize(blocks[:, :253], scales[:, :253], torch.float32)  # above, 6.0 is infinite
    assert torch.equal(_bits(dequantize(*quantize(weight), torch.float32)), _bits(weight))


def test_error_is_at_most_a_step() -> None:
    weight = torch.randn(64, 256, generator=torch.Generator().manual_seed(2))
    error = (dequantize(*quantize(weight), torch.float32) - weight).abs().view(64, -1, BLOCK)
    largest = weight.abs().view(64, -1, BLOCK).amax(-1, keepdim=True)
    # The largest step is 2 scales and the largest magnitude lies within [4, 8) scales.
    assert (error <= largest / 2).all()
    assert error.mean() < 0.1


@pytest.mark.parametrize(
    ("blocks", "scales", "message"),
    [
        (torch.zeros(4, 2, 16), torch.zeros(4, 2, dtype=torch.uint8), "must be uint8"),
        (torch.zeros(4, 2, 16, dtype=torch.uint8), torch.zeros(4, 3, dtype=torch.uint8), "do not match"),
        (torch.zeros(4, 2, 8, dtype=torch.uint8), torch.zeros(4, 2, dtype=torch.uint8), "do not match"),
    ],
)
def test_dequantize_refuses(blocks: torch.Tensor, scales: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dequantize(blocks, scales, torch.float32)


def test_quantize_refuses() -> None:
    with pytest.raises(ValueError, match="multiple of 32"):
        quantize(torch.zeros(2, 40))
    with pytest.raises(ValueError, match="NaN or infinite"):
        quantize(torch.full((2, 32), float("inf")))
