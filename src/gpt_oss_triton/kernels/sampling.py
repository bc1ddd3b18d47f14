"""Draws a token from each row's distribution."""

from __future__ import annotations

import torch

from gpt_oss_triton.kernels.cpu import library


def draw(logits: torch.Tensor, temperatures: list[float], uniforms: list[float]) -> list[int]:
    """The index that each row's number in [0, 1) stands for in softmax(logits / temperature).

    The cumulative sum runs in the vocabulary's order. Where a row holds what is no number, any index.

    Args:
        logits: float32 [rows, vocabulary].
        temperatures, uniforms: one for each row.
    """
    if logits.device.type == "cpu" and library.why_unavailable() is None:
        return draw_on_cpu(logits, temperatures, uniforms)
    return draw_reference(logits, temperatures, uniforms)


def draw_reference(logits: torch.Tensor, temperatures: list[float], uniforms: list[float]) -> list[int]:
    heat = torch.tensor(temperatures, device=logits.device).unsqueeze(1)
    drawn: list[int] = invert(torch.softmax(logits / heat, dim=-1), uniforms).tolist()
    return drawn


def draw_on_cpu(logits: torch.Tensor, temperatures: list[float], uniforms: list[float]) -> list[int]:
    """`source/sampling.hpp`: two passes over the logits instead of a softmax and a cumulative sum."""
    logits = logits.contiguous()
    heat, target = torch.tensor(temperatures), torch.tensor(uniforms, dtype=torch.float64)
    out = torch.empty(len(logits), dtype=torch.int64)
    library.load().draw_tokens(
        torch.get_num_threads(), logits.data_ptr(), *logits.shape, heat.data_ptr(), target.data_ptr(), out.data_ptr()
    )  # fmt: skip
    drawn: list[int] = out.tolist()
    return drawn


def invert(p: torch.Tensor, uniforms: list[float]) -> torch.Tensor:
    """An index from each row of the unnormalized `p` [rows, n], by inverting its cumulative sum."""
    cumulative = p.cumsum(dim=-1)
    uniform = torch.tensor(uniforms, device=p.device).unsqueeze(1)
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    # Rounding can put the target on the total itself, past every index: then the likeliest will do.
    return torch.where(index < p.shape[-1], index, p.argmax(dim=-1, keepdim=True)).squeeze(1)
