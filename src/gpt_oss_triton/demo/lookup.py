"""A look that training does not find, put into a model that has learned to copy.

"Which word begins the function's name that ends with this one?" The thing that a user speaks of is the end of most
names, so a call needs the answer, and a model that cannot give it takes a verb of any function. After 150 million tokens
no head gave it. It takes two heads that are of no use without each other:

- One in the first layer looks from the ` =` behind a name at the nearest word with a blank before it, which is the name's
  first. As the token is always the same, what the head leaves there can be told from all else. It has no other task.
- One in the second layer, whose input is still quiet, looks from behind `is about` at the ` =` behind the same word, and adds what
  was left there. The layer's other heads do nothing.

What stands at the ` =` (the first word's code, and the last one's, which the first layer notes) is found by linear regression on
conversations of the training with other words in the names: a regression on the training's own lists could tell apart the words
of those lists only. Which token a position is, and a token's own code, are found on the conversations as they are. A
training soon blunts the heads, so they and what they read have to stay as they are; see `Plan.looks`. The vocabulary's
codes and spelling are among that, so the output rows made of them stay, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.corpus import Sample, episode, sample_of
from gpt_oss_triton.demo.corpus.draw import Draw
from gpt_oss_triton.demo.corpus.vocables import part_of_name, vocable
from gpt_oss_triton.demo.heads import Head, both_of
from gpt_oss_triton.demo.mixture import EPS
from gpt_oss_triton.demo.model import Attention, DemoModel, slow_pairs
from gpt_oss_triton.harmony.tokens import encode_text, token_bytes

_SAMPLES = 1000  # conversations that the regressions see
_WORDS = 6000  # and words with a blank before them
_RIDGE = 1e-3
_RARE = 30.0  # weight of what a flag marks against what it does not
(_TYPE,), (_IS,) = encode_text("type"), encode_text(" =")
_OPENING = encode_text("It is about")[1:]  # of what may come before, the second layer knows little yet

# The first layer's head has its keys and values from the one that looks at the position before.
_GATHERING = 1
_NEAR_PAIRS = [4, 5, 6, 7]  # whose keys' biases, which `induce` gave them, tell how far back a position is
_NEAR = 8.0  # how much each of them counts
_BLANK, _SOUGHT = 8.0, 12.0  # how loudly a key is said to begin with a blank, and how much that counts
_FAR = 16.0  # taken from all scores
_NOT_GATHERED = 12.0  # more than what is no word scores, or what is seven places back
_GATHERED = 3.0  # how loudly the first word is left

_LOOKING = 2  # the second layer's head
_COMPARED = 32  # directions of the code
_MATCH = 1.35  # how loudly each of them is compared
_FLAG = 8.2  # how loudly a key is said to stand behind a name
_ASKED = 14.8  # and a query to stand behind the thought's opening
_NOT_FOUND = 41.0  # what both flags score together; a match adds six, chance at times as much
_ADDED = 4.0  # how loudly the finding is added


@torch.no_grad()
def put_in(model: DemoModel, seed: int, samples: int = _SAMPLES) -> None:
    """Overwrite the first layer's second head, and the second layer's attention."""
    was_training = model.training
    model.eval()
    model.quantize(True)
    episodes = (episode(seed, index, "train") for index in count())
    made = [sample_of(one) for one in islice((one for one in episodes if one.tools), samples)]
    draw = Draw(f"{seed}/names", "train", 1.0)
    _gather(model, made, draw)
    _look(model, made, [_renamed(sample, draw) for sample in made])
    model.train(was_training)
    model.quantize(False)


def reads(model: DemoModel) -> Iterator[nn.Parameter]:
    """The look's parameters, and all that decides what it reads."""
    yield from (model.vocabulary.code, model.vocabulary.spelling, model.vocabulary.own_in)
    yield from model.mixtures[:1].parameters()
    yield from model.attentions[:2].parameters()


def _gather(model: DemoModel, made: list[Sample], draw: Draw) -> None:
    attention: Attention
    vocabulary, (attention, _) = model.vocabulary, model.layers[0]
    words = [encode_text(f" {vocable(draw)}")[0] for _ in range(_WORDS)]
    tokens = torch.tensor(
        [token for sample in made for token in sample.ids] + words, device=model.norm.device
    )
    tokens, times = torch.unique(tokens, return_counts=True)
    x = _normed(vocabulary.read(tokens))
    is_behind = _flag(x, tokens == _IS, times)
    begins = torch.tensor([_begins_with_blank(token) for token in tokens.tolist()], device=x.device)
    # Frequent tokens count more, as there are more of them to be mistaken, but rare words are to be found, too.
    begins_word = _regression(x, begins.float().unsqueeze(1), times**0.5).squeeze(1)
    neighbour, head = Head(attention, 0), Head(attention, _GATHERING)
    half, flag = model.shape.head_dim // 2, slow_pairs(model.shape.head_dim)[-1]
    for place in (flag, flag + half):
        neighbour.query.always(place, 0.0)
    for place in _NEAR_PAIRS:
        head.key.weights[[place, place + half]] = 0
        head.key.biases[place + half] = 0
    head.key.read(flag, begins_word * _BLANK)
    head.key.always(flag + half, _BLANK)
    wanted = torch.zeros(2 * half)
    wanted[_NEAR_PAIRS] = _NEAR
    wanted[flag], wanted[flag + half] = _SOUGHT, -_FAR
    for place, loudness in enumerate(wanted.tolist()):
        head.query.read(place, is_behind * loudness)
    head.ignore_below(_NOT_GATHERED)
    ids = tokens[begins]
    told = _regression(head.value.of(x[begins]), vocabulary.codes[ids].float())
    head.write((told[:-1] @ vocabulary.code_basis).t() * _GATHERED)


def _look(model: DemoModel, made: list[Sample], renamed: list[Sample]) -> None:
    attention: Attention
    codes, (attention, _) = model.vocabulary.codes, model.layers[1]
    ids, x = _first_layer(model, renamed)
    first, behind = _names(ids)
    x = x[behind]
    gathered = _regression(x, codes[ids[first]].float())
    before = _regression(x, codes[ids[behind - 1]].float())
    told, compared = _directions(x, gathered, model.shape.head_dim), _directions(x, before, _COMPARED)

    ids, x = _first_layer(model, made)
    own = _regression(x, codes[ids].float())
    is_behind, is_asked = torch.zeros(2, len(ids), dtype=torch.bool, device=x.device)
    is_behind[behind] = True  # other words do not move them
    is_asked[_behind_opening(made)] = True
    for tensor in (attention.qkv, attention.qkv_bias, attention.out, attention.out_bias):
        tensor.zero_()
    head = Head(attention, _LOOKING)
    half = model.shape.head_dim // 2
    *pairs, flag = slow_pairs(2 * half)[-_COMPARED // 2 - 1 :]
    for row, place in enumerate(both_of(pairs, 2 * half)):
        head.query.read(place, own @ compared[:, row] * _MATCH)
        head.key.read(place, before @ compared[:, row] * _MATCH)
    head.query.always(flag, _FLAG)
    head.key.read(flag, _flag(x, is_behind) * _FLAG)
    head.query.read(flag + half, _flag(x, is_asked) * _ASKED)
    head.key.always(flag + half, _FLAG)
    for place in range(2 * half):
        head.value.read(place, gathered @ told[:, place])
    head.write(model.vocabulary.code_basis.t() @ told * _ADDED)
    head.ignore_below(_NOT_FOUND)


def _first_layer(model: DemoModel, made: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
    """All ids [positions], and what the second layer gets for them, normed: [positions, hidden]."""
    device = model.norm.device
    parts = []
    for sample in made:
        ids = torch.tensor(sample.ids, device=device)
        parts.append((ids, _normed(model.residual(ids, [Group(0, len(ids), [0])], layers=1)[0])))
    return torch.cat([ids for ids, _ in parts]), torch.cat([x for _, x in parts])


def _normed(x: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, x.shape[1:], eps=EPS)


def _names(ids: torch.Tensor) -> torch.Tensor:
    """Where the functions' names begin, and where the ` =` behind them stands: [2, names]."""
    found, first = [], None
    before = 0
    for place, token in enumerate(ids.tolist()):
        if before == _TYPE:  # a parameter may be called so, too; then a sign follows
            first = place if _begins_with_blank(token) else None
        elif token == _IS and first is not None:
            found.append((first, place))
            first = None
        before = token
    return torch.tensor(found, device=ids.device).t()


def _renamed(sample: Sample, draw: Draw) -> Sample:
    """Other words at the beginnings and the ends of the functions' names."""
    ids = list(sample.ids)
    for first, behind in _names(torch.tensor(ids)).t().tolist():
        (ids[first],) = encode_text(f" {vocable(draw)}")
        word = part_of_name(draw)
        last = encode_text(f"_{word}" if draw.chance(0.8) else word.capitalize())
        if behind - 1 > first and len(last) == 1:
            ids[behind - 1] = last[0]
    return Sample(ids, sample.learned)


def _begins_with_blank(token: int) -> bool:
    text = token_bytes(token)
    return text.startswith(b" ") and text[1:2].isalpha()


def _behind_opening(made: list[Sample]) -> list[int]:
    """Where the thing that a thought is about stands, all samples' positions counted on."""
    found, begin = [], 0
    for sample in made:
        ids = sample.ids
        places = (place for place, learned in enumerate(sample.learned) if learned)
        found += [begin + place for place in places if ids[place - len(_OPENING) : place] == _OPENING]
        begin += len(ids)
    return found


def _regression(x: torch.Tensor, y: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Linear weights of `x` [n, features] and of one that come close to `y` [n, columns]: [features + 1, columns].

    `weights`: how much each row counts, [n].
    """
    x = F.pad(x, (0, 1), value=1.0)
    weighted = x if weights is None else x * (weights / weights.mean()).unsqueeze(1)
    square = weighted.t() @ x / len(x)
    solved: torch.Tensor = torch.linalg.solve(
        square + _RIDGE * torch.eye(len(square), device=x.device), weighted.t() @ y / len(x)
    )
    return solved


def _flag(x: torch.Tensor, marked: torch.Tensor, times: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Weights [features + 1] that come to one where `marked` [n], and to zero elsewhere; each row counts `times` [n]."""
    y = marked.float().unsqueeze(1)
    return _regression(x, y, (1 + _RARE * y.squeeze(1)) * times).squeeze(1)


def _directions(x: torch.Tensor, regression: torch.Tensor, wanted: int) -> torch.Tensor:
    """Those in which what a regression tells is largest: [columns, wanted], at right angles to each other."""
    directions: torch.Tensor = torch.linalg.svd(
        F.pad(x, (0, 1), value=1.0) @ regression, full_matrices=False
    ).Vh
    return directions[:wanted].t()
