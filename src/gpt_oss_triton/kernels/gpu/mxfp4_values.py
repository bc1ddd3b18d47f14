"""MXFP4's numbers in registers, and the activation that follows them: shared by both forms of the experts."""

# Kernels are written in Triton's own language: pointers and numbers without types, constants in capitals.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from __future__ import annotations

import triton
import triton.language as tl

# An E2M1 code's exponent and mantissa bits, put where a float32 has the low end of its exponent and the high end
# of its mantissa, are the same number times 2^-126: also 0.5, which both write as a subnormal. Multiplying that
# away for each weight would be one instruction in five, so whoever unpacks makes it good where it costs less.
E2M1_LIFT = tl.constexpr(2.0**126)


@triton.jit
def tiny_e2m1(packed, low: tl.constexpr):
    """The E2M1 code at bits low ... low + 3 of int32 `packed` -> float32, times 2^-126 but exact."""
    # The code goes to the top, its sign in the sign bit; then down by six bits, the sign smeared over the
    # exponent; the mask leaves sign, two exponent bits and one mantissa bit.
    return (((packed << (28 - low)) >> 6) & -0x7E400000).to(tl.float32, bitcast=True)


@triton.jit
def power_of_two(scale, lift: tl.constexpr):
    """uint8 E8M0 scales, times 2^lift -> float32. Exact where the result is a normal number; 0 or NaN where it
    is not, never a wrong number. 255 is NaN."""
    exponent = scale.to(tl.int32) + lift
    bits = tl.where(exponent > 0, exponent << 23, 0)
    return tl.where((exponent > 254) | (scale == 255), 0x7FC00000, bits).to(tl.float32, bitcast=True)


@triton.jit
def clamped_swiglu(gate, up, alpha, limit):
    """gpt-oss's activation of float32 gate and up."""
    # A comparison keeps a NaN, a minimum would turn it into the limit.
    gate = tl.where(gate > limit, limit, gate)
    up = tl.where(up > limit, limit, tl.where(up < -limit, -limit, up))
    return (up + 1) * (gate / (1 + tl.exp(-gate * alpha)))
