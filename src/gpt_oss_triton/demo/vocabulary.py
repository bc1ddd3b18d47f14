"""The vectors of the tokens, in and out, from the features of their spelling and the codes of their words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from gpt_oss_triton.demo.spelling import (
    CODE,
    FEATURES,
    NOTHING,
    WIDTH,
    Alike,
    can_be_written,
    code_table,
    feature_table,
)
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL
from gpt_oss_triton.options import VOCABULARY

# oneDNN builds code for every size of a product that it meets, and keeps a megabyte of it: let there be few sizes.
ROUND = 64
# Of a spelling's and of a code's vector as an output row: the first logits are small, and yet can name one token, the
# more so by its code: a head that looks at three words in the same way should make each of them likelier than any
# other word.
OUT_SCALE = 1 / 8
CODE_OUT_SCALE = 1 / 4
_FEATURE_STD = 0.35  # of about eight that make a token
_LETTERS = (slice(3), slice(1, 4))  # what tokens have in common that are easily taken for each other
_ALIKE = 8  # of either kind are counted beside a target
_FORGOTTEN = 0.1  # share of the own rows that one batch of training goes without


class Guise(NamedTuple):
    """
    Attributes:
        features: int64 [VOCABULARY, WIDTH], of each token's spelling; see `spelling.py`.
        codes: int8 [VOCABULARY, signs], of its word.
        seen_as: int64 [VOCABULARY], the token whose features and code these are, or one of its word.
    """

    features: torch.Tensor
    codes: torch.Tensor
    seen_as: torch.Tensor


class Vocabulary(nn.Module):
    """Rows for reading and writing.

    - What a token's spelling and its word's code give is read and written alike.
    - The `own` tokens, those that the corpus is full of, have a row of their own on top, one for each direction.
    - Tokens that are neither own nor can be told by their spelling share one output row, `never`, whose logit is
      trained to stay low.
    """

    def __init__(self, hidden: int, own: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("own", torch.tensor(sorted(own)), persistent=False)
        basis = torch.linalg.qr(torch.randn(hidden, min(CODE, hidden // 2))).Q.t()  # rows at right angles
        self.code = nn.Parameter(basis * hidden**0.5)
        self.spelling = nn.Parameter(torch.randn(FEATURES, hidden) * _FEATURE_STD)
        self.own_in = nn.Parameter(torch.randn(len(own), hidden) * 0.1)
        self.own_out = nn.Parameter(torch.zeros(len(own), hidden))
        self.never = nn.Parameter(torch.zeros(hidden))
        features = torch.full((VOCABULARY, WIDTH), NOTHING)
        features[:FIRST_SPECIAL] = torch.from_numpy(feature_table())
        self.register_buffer("features", features, persistent=False)
        codes = F.pad(torch.from_numpy(code_table())[:, : len(basis)], (0, 0, 0, VOCABULARY - FIRST_SPECIAL))
        self.register_buffer("codes", codes, persistent=False)
        place = torch.full((VOCABULARY,), -1)
        place[self.own] = torch.arange(len(own))
        self.register_buffer("place", place, persistent=False)
        spoken = torch.tensor([can_be_written(token) for token in range(FIRST_SPECIAL)])
        rare = F.pad(spoken, (0, VOCABULARY - FIRST_SPECIAL)) & (place < 0)
        self.register_buffer("rare", rare.nonzero().squeeze(1), persistent=False)
        self.register_buffer("_rare", rare, persistent=False)
        self.register_buffer("_every", torch.arange(VOCABULARY), persistent=False)
        self._guise: Guise | None = None  # where it is not the plain one

    own: torch.Tensor
    features: torch.Tensor
    codes: torch.Tensor
    place: torch.Tensor
    rare: torch.Tensor
    _rare: torch.Tensor
    _every: torch.Tensor

    @property
    def plain(self) -> Guise:
        """The tokens as they are."""
        return Guise(self.features, self.codes, self._every)

    @contextmanager
    def seen_in(self, guise: Guise) -> Iterator[None]:
        """Meanwhile the model reads and writes the tokens as they look there."""
        self._guise = guise
        try:
            yield
        finally:
            self._guise = None

    @property
    def seen(self) -> Guise:
        """The tokens as the model reads and writes them now."""
        return self._guise or self.plain

    def _spelled(self, tokens: torch.Tensor) -> torch.Tensor:
        return F.embedding_bag(self.seen.features[tokens], self.spelling, mode="sum", padding_idx=NOTHING)

    def _coded(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.seen.codes[tokens].float() @ self.code_basis

    @property
    def code_basis(self) -> torch.Tensor:
        """What each sign of a code adds: [signs, hidden], at first of length one."""
        return self.code / math.sqrt(self.code.shape[1])

    def _own(self, tokens: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        place = self.place[tokens]
        has = place >= 0
        if (
            self.training
        ):  # so that what is learned of own words holds for words that are known by spelling alone
            is_text = self.features[tokens, 0] != NOTHING
            has = has & ~(is_text & (torch.rand(len(tokens), device=tokens.device) < _FORGOTTEN))
        return F.embedding(place.clamp(min=0), rows) * has.unsqueeze(1)

    def read(self, tokens: torch.Tensor) -> torch.Tensor:
        """int64 [n] -> [n, hidden]."""
        return self._spelled(tokens) + self._coded(tokens) + self._own(tokens, self.own_in)

    def written(self, tokens: torch.Tensor) -> torch.Tensor:
        """Output rows of own and rare tokens: int64 [n] -> [n, hidden]."""
        named = self._spelled(tokens) * OUT_SCALE + self._coded(tokens) * CODE_OUT_SCALE
        return named + self._own(tokens, self.own_out)

    def loss(
        self, hidden: torch.Tensor, targets: torch.Tensor, context: torch.Tensor, negatives: int
    ) -> torch.Tensor:
        """Sum of the cross entropies of [n, hidden] states and int64 [n] targets over the whole vocabulary.

        All own tokens are counted, and what is easily taken for a target: the tokens of the `context`, int64 [m], and
        some that are spelled like a target. Of the other ones a random sample stands for all.
        """
        likely = torch.cat((context, self._alike(torch.unique(targets))))
        others = torch.unique(torch.cat((targets[self.place[targets] < 0], likely[self._rare[likely]])))
        drawn = self.rare[torch.randint(len(self.rare), (negatives,), device=targets.device)]
        drawn = drawn[~torch.isin(drawn, others)]
        drawn = drawn[(len(self.own) + len(others) + len(drawn) + 1) % ROUND :]
        candidates = torch.cat((self.own, others, drawn))
        rows = torch.cat((self.written(candidates), self.never.unsqueeze(0)))
        weights = hidden.new_zeros(len(rows), dtype=torch.float32)
        weights[-1 - len(drawn) : -1] = math.log(max(1, len(self.rare) - len(others)) / max(1, len(drawn)))
        weights[-1] = math.log(VOCABULARY - len(self.rare) - len(self.own))
        hidden = F.pad(hidden, (0, 0, 0, -len(hidden) % ROUND))
        logits = F.linear(hidden, rows.to(hidden.dtype))[: len(targets)].float() + weights
        where = torch.full((VOCABULARY,), -1, device=targets.device)
        where[candidates] = torch.arange(len(candidates), device=targets.device)
        return F.cross_entropy(logits, where[targets], reduction="sum")

    @cached_property
    def _groups(self) -> list[tuple[torch.Tensor, ...]]:
        """Of each kind of likeness the tensors of `Alike`. Only a training needs them."""
        kinds = [Alike(letters) for letters in _LETTERS]
        arrays = [(kind.tokens, kind.first, kind.count) for kind in kinds]
        return [tuple(torch.from_numpy(one).to(self.own.device) for one in kind) for kind in arrays]

    def _alike(self, targets: torch.Tensor) -> torch.Tensor:
        """For each rare target some tokens that are spelled alike."""
        seen_as = self.seen.seen_as
        targets = seen_as[targets[self._rare[targets]]]
        found = []
        for tokens, first, count in self._groups:
            drawn = torch.rand(len(targets), _ALIKE, device=targets.device) * count[targets].unsqueeze(1)
            # What looks like one of them is the token that changed places with it, if any did.
            found.append(seen_as[tokens[first[targets].unsqueeze(1) + drawn.long()].flatten()])
        return torch.cat(found)

    @torch.no_grad()
    def rows(self, first: int, last: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The input and output rows of the tokens [first, last), float32 [last - first, hidden] each."""
        tokens = torch.arange(first, last, device=self.spelling.device)
        told = (self.place[tokens] >= 0) | torch.isin(tokens, self.rare)
        out = torch.where(told.unsqueeze(1), self.written(tokens), self.never)
        return self.read(tokens), out
