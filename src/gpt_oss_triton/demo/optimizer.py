"""Muon for the layers' matrices, AdamW for everything else.

Muon (Jordan et al., 2024) makes the momentum of a matrix nearly orthogonal, so that rare directions learn as fast as
frequent ones: it needs about half of AdamW's tokens here. torch's own takes single matrices only; ours takes the
experts' stacks of them in one product.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

_MOMENTUM = 0.95
_QUINTIC = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """For parameters [..., rows, columns]."""

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # torch's may also return a loss
        """`closure` is torch's interface; there is nothing to evaluate again."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - _MOMENTUM)
                update = orthogonal(parameter.grad.lerp(momentum, _MOMENTUM))
                rows, columns = parameter.shape[-2:]
                parameter.sub_(update, alpha=group["lr"] * max(1.0, rows / columns) ** 0.5)


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest matrices with singular values near one: [..., rows, columns], computed in bfloat16."""
    a, b, c = _QUINTIC
    x = matrix.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    nearest: torch.Tensor = (x.mT if tall else x).to(matrix.dtype)
    return nearest
