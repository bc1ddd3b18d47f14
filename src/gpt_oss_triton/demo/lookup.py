"""A look that training does not find, put into a model that has learned to copy.

"Which word stands before this one in a function's name?" The thing that a user speaks of is the end of most names, so a call
needs the answer, and a model that cannot give it takes a verb of any function. It is one step: look for the same word
in a name, and say what the first layer noted there (see `induction.py`). After 150 million tokens no head did it: the copying
layers add so much that what later ones add counts little, and their own heads are busy.

So one head of the second layer, whose input is still quiet, is made for it; the layer's other heads do nothing. It looks
where it stands behind `is about`, at words that are the same and follow another one in a name. What it reads (a word's
code, the noted code of the word before, whether the word belongs to a name) is found by linear regression on conversations
of the training. A training soon blunts it, so it and what it reads have to stay as they are; see `Plan.looks`. That the
vocabulary's codes and spelling are among them holds for the output, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.corpus import Sample, episode, sample_of
from gpt_oss_triton.demo.mixture import EPS
from gpt_oss_triton.demo.model import Attention, DemoModel, slow_pairs
from gpt_oss_triton.harmony.tokens import encode_text, token_bytes

_SAMPLES = 900  # conversations that the regression sees
_LAYER, _HEAD = 1, 2
_COMPARED = 28  # signs of the code
_MATCH = 1.8  # how loudly each of them is compared
_FLAG = 8.2  # how loudly a key is said to be in a name
_ASKED = 14.8  # and a query to stand behind the thought's opening
_NO_MATCH = 41.0  # the sink's score; two of the three come to less, all three to more
_ADDED = 4.0  # how loudly the finding is added
_RIDGE = 1e-3
_RARE = 30.0  # weight of what a flag marks against what it does not
(_TYPE,), (_IS,) = encode_text("type"), encode_text(" =")
_OPENING = encode_text("It is about")[1:]  # of what may come before, the layer knows little yet


@dataclass(frozen=True, slots=True)
class _Seen:
    """What stands at each position: the layer's normed input [positions, hidden], codes of the token and of the one before it
    [positions, signs], and whether the position follows another one in a name, or the opening of a thought [positions]."""

    x: torch.Tensor
    code: torch.Tensor
    before: torch.Tensor
    follows: torch.Tensor
    asked: torch.Tensor


@torch.no_grad()
def put_in(model: DemoModel, seed: int, samples: int = _SAMPLES) -> None:
    """Overwrite the second layer's attention by the one head."""
    was_training = model.training
    model.eval()
    model.quantize(True)
    seen = _seen(model, seed, samples)
    model.train(was_training)
    model.quantize(False)
    in_name = seen.follows > 0
    code = _regression(seen.x, seen.code)
    before = _regression(seen.x[in_name], seen.before[in_name])
    follows, asked = _flag(seen.x, seen.follows), _flag(seen.x, seen.asked)
    attention, size = _attention(model), model.shape.head_dim
    compared = _best(seen.x, seen.code, code, _COMPARED)
    told = _best(seen.x[in_name], seen.before[in_name], before, size)
    where = attention.rows_of(_HEAD)
    query, key, value = (_Rows(attention, rows.start) for rows in where)
    for tensor in (attention.qkv, attention.qkv_bias, attention.out):
        tensor.zero_()
    *pairs, flags = slow_pairs(size)[-_COMPARED // 2 - 1 :]
    for place, sign in zip((pair + half for pair in pairs for half in (0, size // 2)), compared, strict=True):
        for rows in (query, key):
            rows.read(place, code[:, sign] * _MATCH)
    query.always(flags, _FLAG)
    key.read(flags, follows * _FLAG)
    query.read(flags + size // 2, asked * _ASKED)
    key.always(flags + size // 2, _FLAG)
    for place, sign in enumerate(told):
        value.read(place, before[:, sign])
    attention.out[:, where[0]] = model.vocabulary.code_basis[told].t() * _ADDED
    attention.sinks[_HEAD] = _NO_MATCH


def reads(model: DemoModel) -> Iterator[nn.Parameter]:
    """The look's parameters, and all that decides what it reads."""
    yield from (model.vocabulary.code, model.vocabulary.spelling, model.vocabulary.own_in)
    yield from model.mixtures[:_LAYER].parameters()
    yield from model.attentions[: _LAYER + 1].parameters()


def _attention(model: DemoModel) -> Attention:
    attention: Attention = model.layers[_LAYER][0]
    return attention


class _Rows:
    """The rows of a layer's attention that make a head's queries, keys or values."""

    def __init__(self, attention: Attention, first: int) -> None:
        self._attention, self._first = attention, first

    def read(self, place: int, weights: torch.Tensor) -> None:
        """`weights`: of the normed input, and of one: [hidden + 1]."""
        self._attention.qkv[self._first + place] = weights[:-1] / self._attention.norm
        self._attention.qkv_bias[self._first + place] = weights[-1]

    def always(self, place: int, number: float) -> None:
        self._attention.qkv_bias[self._first + place] = number


def _seen(model: DemoModel, seed: int, samples: int) -> _Seen:
    inputs: list[torch.Tensor] = []
    found: list[list[torch.Tensor]] = []
    hook = _attention(model).register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    device = model.norm.device
    for index in range(samples):
        made = episode(seed, index, "train")
        if not made.tools:
            continue
        sample = sample_of(made)
        model(torch.tensor(sample.ids, device=device), [Group(0, len(sample.ids), [0])])
        x = inputs.pop()
        code = model.vocabulary.codes[sample.ids].float()
        flags = (torch.tensor(of(sample), device=device) for of in (_following, _behind_opening))
        found.append([F.rms_norm(x, x.shape[1:], eps=EPS), code, F.pad(code, (0, 0, 1, 0))[:-1], *flags])
    hook.remove()
    x, code, before, follows, asked = (torch.cat(parts) for parts in zip(*found, strict=True))
    return _Seen(x, code, before, follows, asked)


def _following(sample: Sample) -> list[float]:
    """1 at each token of a function's name but the first, else 0."""
    flags, inside = [], 0  # tokens of the name so far
    for before, token in pairwise([0, *sample.ids]):
        if before == _TYPE:  # a parameter may be called so, too; then a sign follows
            inside = int((token_bytes(token) or b"").startswith(b" "))
        elif inside:
            inside = 0 if token == _IS else inside + 1
        flags.append(float(inside > 1))
    return flags


def _behind_opening(sample: Sample) -> list[float]:
    ids = sample.ids
    return [
        float(learned and ids[max(0, place - len(_OPENING)) : place] == _OPENING)
        for place, learned in enumerate(sample.learned)
    ]


def _regression(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Linear weights of `x` [n, hidden] and of one that come close to `y` [n, columns]: [hidden + 1, columns]."""
    x = F.pad(x, (0, 1), value=1.0)
    weighted = x if weights is None else x * weights
    square = weighted.t() @ x / len(x)
    solved: torch.Tensor = torch.linalg.solve(
        square + _RIDGE * torch.eye(len(square), device=x.device), weighted.t() @ y / len(x)
    )
    return solved


def _flag(x: torch.Tensor, marked: torch.Tensor) -> torch.Tensor:
    marked = marked.unsqueeze(1)
    return _regression(x, marked, 1 + _RARE * marked).squeeze(1)


def _best(x: torch.Tensor, y: torch.Tensor, regression: torch.Tensor, count: int) -> torch.Tensor:
    """The columns of `y` that the regression tells best: [count]."""
    wrong = (F.pad(x, (0, 1), value=1.0) @ regression - y).square().mean(0)
    return wrong.argsort()[:count]
