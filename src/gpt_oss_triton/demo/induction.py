"""A beginning that can already copy.

"What followed this token the last time?" takes two heads that are of no use without each other (an induction circuit:
Olsson et al., 2022), so a training from random weights finds it late: here it had not after five million tokens. It
is therefore put into the weights by hand, roughly, and training does the rest:

- The first layer's first head looks at the position before, by its biases alone, and leaves what stands there in
  some directions of its own.
- Heads of the second and the third layer with full attention compare those directions of earlier positions with their own
  token: a match stands behind an earlier occurrence. They add what they find there, each a part of its vector. The first of
  these layers adds most of the code, and the directions that tell a word's form. It leaves alone what is compared: the
  second one would look for what the first one found.
"""

from __future__ import annotations

import math

import torch

from gpt_oss_triton.demo.model import Attention, DemoModel, inverse_frequencies, slow_pairs
from gpt_oss_triton.demo.spelling import LEADS

_BEFORE = 5.0  # length of the biases that find the position before, for each frequency
_FREQUENCIES = 8  # that they use; slower ones hardly tell neighbours apart
_PAIRS = 15  # slow ones, by which is compared
_NOTED = 1.4  # how loudly the position before is noted
_TOLD = 4.0  # length of a feature's vector
_SHARP = 2.2  # of a match against what differs
_NO_MATCH = 6.0  # the sink's score, which a chance likeness does not reach
_ADDED = 16.0  # how loudly the finding is added
_QUIET = 0.3  # of the experts' results, which are noise yet
_LOOKING_LAYERS = (3, 5)  # the second layer is left to `lookup.py`


@torch.no_grad()
def induce(model: DemoModel) -> None:
    """Overwrite some heads and the spelling's vectors of a new model. Draws from torch's random numbers."""
    hidden, size = model.shape.hidden, model.shape.head_dim
    codes = model.vocabulary.code_basis
    compared, other = codes[: 2 * _PAIRS], codes[2 * _PAIRS :]
    noted = _orthonormal(codes, size)
    letters = _orthonormal(torch.cat((codes, noted)), hidden - len(codes) - size)
    form = letters[: 2 * size - len(other)]  # as many as go with the codes through two heads
    _spell(model, letters, form)
    first = _Head(model, layer=0, kv_head=0)
    first.look_before()
    first.move(codes[:size], noted, _NOTED)
    parts = iter(torch.split(torch.cat((other, form, compared, letters[len(form) :])), size))
    for layer in _LOOKING_LAYERS:
        for kv_head in range(model.shape.kv_heads):
            if (part := next(parts, None)) is not None:
                head = _Head(model, layer, kv_head)
                head.look_behind_matches(compared, noted)
                head.move(part, part, _ADDED)
    for _, mixture in model.layers:
        mixture.down.mul_(_QUIET)


def _spell(model: DemoModel, letters: torch.Tensor, form: torch.Tensor) -> None:
    """Draw the features' vectors along these directions: letters, and what tells forms of the same letters apart."""
    spelling = model.vocabulary.spelling
    for rows, directions in ((slice(None, LEADS), letters), (slice(LEADS, None), form)):
        drawn = torch.randn(len(spelling[rows]), len(directions)) @ directions
        spelling[rows] = drawn * (_TOLD / len(directions) ** 0.5)


def _orthonormal(others: torch.Tensor, count: int) -> torch.Tensor:
    """`count` random rows of length one, at right angles to each other and to the rows of `others`."""
    drawn = torch.cat((others, torch.randn(count, others.shape[1])))
    columns: torch.Tensor = torch.linalg.qr(drawn.t()).Q
    return columns.t()[len(others) :]


class _Head:
    """A KV head and the first query head of its group."""

    def __init__(self, model: DemoModel, layer: int, kv_head: int) -> None:
        shape = model.shape
        self._attention: Attention = model.layers[layer][0]
        self._frequencies = inverse_frequencies(shape.head_dim)
        head = kv_head * (shape.heads // shape.kv_heads)
        self._head = head
        self._query, self._key, self._value = self._attention.rows_of(head)
        self._attention.qkv[self._query] = 0
        self._attention.qkv[self._key] = 0

    def look_before(self) -> None:
        """The score peaks one position back, whatever stands there."""
        bias = self._attention.qkv_bias
        half = len(self._frequencies)
        for pair, frequency in enumerate(self._frequencies[:_FREQUENCIES]):
            bias[self._key][pair] = _BEFORE
            bias[self._query][pair] = _BEFORE * math.cos(frequency)
            bias[self._query][pair + half] = -_BEFORE * math.sin(frequency)

    def look_behind_matches(self, read: torch.Tensor, noted: torch.Tensor) -> None:
        """The score is high where what was noted is like what is read here."""
        half = len(self._frequencies)
        slow = slow_pairs(2 * half)[:_PAIRS]
        for row, place in enumerate([*slow, *(pair + half for pair in slow)]):
            self._attention.qkv[self._query][place] = _SHARP * read[row]
            self._attention.qkv[self._key][place] = _SHARP * noted[row]
        self._attention.sinks[self._head] = _NO_MATCH

    def move(self, read: torch.Tensor, written: torch.Tensor, loudness: float) -> None:
        """What the head finds along `read` is added along `written`: rows of length one, as many as the head is wide."""
        self._attention.qkv[self._value] = read
        self._attention.out[:, self._query] = written.t() * loudness
