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

from gpt_oss_triton.demo.heads import Head, both_of
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
_LOOKING_LAYERS = (3, 5)  # the second layer, and the first one's second head, are left to `lookup.py`


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
    first = _head(model, layer=0, kv_head=0)
    _look_before(first, size)
    _move(first, codes[:size], noted, _NOTED)
    parts = iter(torch.split(torch.cat((other, form, compared, letters[len(form) :])), size))
    for layer in _LOOKING_LAYERS:
        for kv_head in range(model.shape.kv_heads):
            if (part := next(parts, None)) is not None:
                head = _head(model, layer, kv_head)
                _look_behind_matches(head, size, compared, noted)
                _move(head, part, part, _ADDED)
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


def _head(model: DemoModel, layer: int, kv_head: int) -> Head:
    """A KV head and the first query head of its group, which score all positions alike."""
    attention: Attention = model.layers[layer][0]
    head = Head(attention, kv_head * (model.shape.heads // model.shape.kv_heads))
    head.query.weights.zero_()
    head.key.weights.zero_()
    return head


def _look_before(head: Head, head_dim: int) -> None:
    """The score peaks one position back, whatever stands there."""
    half = head_dim // 2
    for pair, frequency in enumerate(inverse_frequencies(head_dim)[:_FREQUENCIES]):
        head.key.biases[pair] = _BEFORE
        head.query.biases[pair] = _BEFORE * math.cos(frequency)
        head.query.biases[pair + half] = -_BEFORE * math.sin(frequency)


def _look_behind_matches(head: Head, head_dim: int, read: torch.Tensor, noted: torch.Tensor) -> None:
    """The score is high where what was noted is like what is read here."""
    places = both_of(slow_pairs(head_dim)[:_PAIRS], head_dim)
    head.query.weights[places] = _SHARP * read[: len(places)]
    head.key.weights[places] = _SHARP * noted[: len(places)]
    head.ignore_below(_NO_MATCH)


def _move(head: Head, read: torch.Tensor, written: torch.Tensor, loudness: float) -> None:
    """What the head finds along `read` is added along `written`: rows of length one, as many as the head is wide."""
    head.value.weights.copy_(read)
    head.write(written.t() * loudness)
