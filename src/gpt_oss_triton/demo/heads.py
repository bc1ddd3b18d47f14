"""A model's head, to be set by hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from gpt_oss_triton.demo.model import Attention


class Head:
    """A query head, and the key and the value that it shares with the others of its group."""

    def __init__(self, attention: Attention, number: int) -> None:
        self._attention, self._number = attention, number
        where = attention.rows_of(number)
        self.query, self.key, self.value = (Rows(attention, rows) for rows in where)
        self._columns = where[0]

    def write(self, weights: torch.Tensor) -> None:
        """What is added for what was found: [hidden, head_dim]."""
        self._attention.out[:, self._columns] = weights

    def ignore_below(self, score: float) -> None:
        """The sink's score: where nothing scores higher, the head adds next to nothing."""
        self._attention.sinks[self._number] = score


class Rows:
    """The rows of a layer's attention that make a head's queries, keys or values, one for each of its dimensions."""

    def __init__(self, attention: Attention, rows: slice) -> None:
        self._norm, self.weights, self.biases = attention.norm, attention.qkv[rows], attention.qkv_bias[rows]

    def read(self, place: int, weights: torch.Tensor) -> None:
        """`weights`: of the normed input before the norm's own weights, and of one: [hidden + 1]."""
        self.weights[place] = weights[:-1] / self._norm
        self.biases[place] = weights[-1]

    def always(self, place: int, number: float) -> None:
        """The same wherever it stands."""
        self.weights[place] = 0
        self.biases[place] = number

    def of(self, x: torch.Tensor) -> torch.Tensor:
        """Input [n, hidden], normed without the norm's own weights -> [n, head_dim]."""
        return F.linear(x * self._norm, self.weights, self.biases)


def both_of(pairs: Sequence[int], head_dim: int) -> list[int]:
    """The dimensions that the rotation takes together: all first ones, then all second ones."""
    return [*pairs, *(pair + head_dim // 2 for pair in pairs)]
