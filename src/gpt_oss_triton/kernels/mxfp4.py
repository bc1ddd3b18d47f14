"""MXFP4 as gpt-oss publishes it, in plain torch: the reference for every faster version.

A row of weights is cut into blocks of 32 along the input dimension. Each weight is an E2M1 nibble (sign,
two exponent bits, one mantissa bit), two to a byte with the earlier weight in the low nibble, and each
block shares one E8M0 scale byte: a power of two with bias 127, where 255 means NaN. Source: OCP
Microscaling Formats (MX) 1.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

BLOCK = 32  # weights that share a scale
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # by code; codes 8 to 15 are the same, negated
_EMAX = 2  # exponent of E2M1's largest power of two, 4.0
_BIAS = 127


@dataclass(frozen=True, slots=True)
class Mxfp4Matrix:
    """Weights as a checkpoint holds them: uint8 `blocks` [..., rows, columns / 32, 16] and `scales` [..., rows, columns / 32]."""

    blocks: torch.Tensor
    scales: torch.Tensor


def dequantize(blocks: torch.Tensor, scales: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Unpack to `dtype`; exact in float32 and bfloat16.

    Args:
        blocks: uint8 [..., rows, blocks, 16].
        scales: uint8 [..., rows, blocks].
        dtype: any floating type; values outside of its range become infinite or zero.

    Returns:
        [..., rows, blocks * 32].

    Raises:
        ValueError: the two do not belong together.
    """
    if blocks.dtype != torch.uint8 or scales.dtype != torch.uint8:
        raise ValueError(f"MXFP4 blocks and scales must be uint8, got {blocks.dtype} and {scales.dtype}.")
    if blocks.shape[:-1] != scales.shape or blocks.shape[-1] != BLOCK // 2:
        raise ValueError(
            f"MXFP4 blocks {tuple(blocks.shape)} and scales {tuple(scales.shape)} do not match: expected "
            f"[..., rows, blocks, {BLOCK // 2}] and [..., rows, blocks]."
        )
    wide = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32  # float16 cannot hold every scale
    # Both values of a byte are looked up as one integer, which is several times as fast as two look-ups.
    pairs = torch.tensor([[_value(byte & 15), _value(byte >> 4)] for byte in range(256)], dtype=wide)
    words = pairs.view(torch.int32 if wide == torch.bfloat16 else torch.int64).flatten().to(blocks.device)
    powers = torch.tensor([2.0 ** (byte - _BIAS) for byte in range(255)] + [float("nan")], dtype=wide)
    values = words.index_select(0, blocks.flatten().int()).view(wide).view(-1, BLOCK)
    values *= powers.to(scales.device).index_select(0, scales.flatten().int()).unsqueeze(-1)
    return values.view(*scales.shape[:-1], scales.shape[-1] * BLOCK).to(dtype)


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round to the nearest E2M1 value, ties to the even code, above 6 to 6.

    A block's scale is the OCP rule's: the power of two below its largest magnitude, divided by 4. What
    came from `dequantize` comes back with the same values, and what came from `quantize` with the same bits.

    Args:
        weight: floating [..., rows, columns]; columns a multiple of 32, all finite.

    Returns:
        blocks uint8 [..., rows, columns / 32, 16] and scales uint8 [..., rows, columns / 32].

    Raises:
        ValueError: columns do not fill whole blocks, or a weight is not finite.
    """
    if weight.shape[-1] % BLOCK:
        raise ValueError(f"MXFP4 needs a multiple of {BLOCK} columns, got {weight.shape[-1]}.")
    values = weight.float().reshape(*weight.shape[:-1], -1, BLOCK)
    if not torch.isfinite(values).all():
        raise ValueError("MXFP4 cannot hold NaN or infinite weights.")
    largest = values.abs().amax(-1)
    exponents = torch.frexp(largest).exponent - 1 - _EMAX  # frexp's mantissa lies in [0.5, 1)
    exponents = exponents.masked_fill(largest == 0, -_BIAS).clamp(-_BIAS, _BIAS)
    codes = encode(values.double() * torch.exp2(-exponents.double()).unsqueeze(-1))
    return codes[..., 0::2] | codes[..., 1::2] << 4, (exponents + _BIAS).to(torch.uint8)


def encode(values: torch.Tensor) -> torch.Tensor:
    """The nearest E2M1 codes (uint8, the same shape) of floating `values` with scale 1."""
    size = values.abs()
    # Steps of 0.5 below 2, of 1 below 4, of 2 above. `round` takes ties to even, and a code is as even as
    # the quotient it comes from.
    code = torch.where(
        size < 2,
        torch.round(size * 2),
        torch.where(size < 4, torch.round(size) + 2, torch.round(size / 2) + 4),
    )
    return code.clamp(max=7).to(torch.uint8) | torch.signbit(values).to(torch.uint8) << 3


def _value(code: int) -> float:
    return -E2M1[code & 7] if code & 8 else E2M1[code]
