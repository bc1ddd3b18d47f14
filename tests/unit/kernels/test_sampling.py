"""Draws by the CPU kernel against the reference and against the distribution."""

from __future__ import annotations

import math

import pytest
import torch

from gpt_oss_triton.kernels.cpu import library
from gpt_oss_triton.kernels.sampling import draw, draw_on_cpu, draw_reference

needs_kernels = pytest.mark.skipif(
    library.why_unavailable() is not None, reason=str(library.why_unavailable())
)


@needs_kernels
@pytest.mark.parametrize("vocabulary", [1, 15, 17, 1024, 1025, 201_088])
def test_draws_what_the_reference_draws(vocabulary):
    """But where a target falls within rounding of a border between two tokens."""
    torch.manual_seed(0)
    logits = torch.randn(64, vocabulary) * 4
    heat = (torch.rand(64) + 0.3).tolist()
    uniforms = torch.rand(64).tolist()
    same = [
        a == b
        for a, b in zip(
            draw_on_cpu(logits, heat, uniforms), draw_reference(logits, heat, uniforms), strict=True
        )
    ]
    assert sum(same) >= 62


@pytest.mark.parametrize("function", [pytest.param(draw_on_cpu, marks=needs_kernels), draw_reference, draw])
def test_the_number_divides_the_interval_by_probability(function):
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().repeat(4, 1)
    assert function(logits, [1.0] * 4, [0.05, 0.15, 0.55, 0.999]) == [0, 1, 2, 3]


@needs_kernels
def test_what_cannot_be_drawn_is_not():
    logits = torch.full((3, 40), -math.inf)
    logits[:, 20] = 5.0
    assert draw_on_cpu(logits, [1.0, 0.01, 2.0], [0.0, 0.5, 1 - 2**-53]) == [20, 20, 20]


@needs_kernels
def test_rows_without_numbers_do_no_harm():
    logits = torch.randn(3, 100)
    logits[0, 3] = math.nan
    logits[1, 4] = math.inf
    drawn = draw_on_cpu(logits, [1.0] * 3, [0.5] * 3)
    assert all(0 <= token < 100 for token in drawn)
    assert drawn[2] == draw_reference(logits[2:], [1.0], [0.5])[0]
