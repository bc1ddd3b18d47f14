"""Tensor parallelism: every rank holds a share of each layer, and they sum what the shares add.

Attention is cut by heads, so a rank needs no keys and values but its own; the mixture by experts, so that packed
rows stay whole (the 90 MXFP4 blocks of gpt-oss's rows divide by neither 4 nor 8); the vocabulary by rows. The
router is small and everywhere. Two sums a layer cross the ranks, each of [tokens, hidden].
"""

from __future__ import annotations

import torch

from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.parallel.group import Group, Hidden
from gpt_oss_triton.engine.parallel.messages import Likeliest, Logits, Message, Step
from gpt_oss_triton.engine.parallel.team import Team
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.kernels.moe import ExpertWeights, Mxfp4Experts
from gpt_oss_triton.kernels.operations import (
    Attention,
    Embedding,
    HeadShape,
    Linear,
    Norm,
    PartialMixture,
    PartialOperations,
    Vocabulary,
)


class TensorOperations:
    """Makes the operations of one rank from its share of the weights."""

    def __init__(self, inner: PartialOperations, group: Group, part: Part, vocabulary: int) -> None:
        """`vocabulary`: tokens of the whole model."""
        self._inner, self._group = inner, group
        self._words = part.of(vocabulary)

    def embedding(self, weight: torch.Tensor) -> SharedEmbedding:
        return SharedEmbedding(self._inner.embedding(weight), self._words, self._group)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor, norm: Norm | None = None) -> Linear:
        linear = self._inner.linear(weight, bias, norm)
        # What goes into attention is cut by outputs, what comes out of it by inputs.
        return linear if norm is not None else SummedLinear(linear, self._group)

    def attention(self, shape: HeadShape, sinks: torch.Tensor, window: int | None) -> Attention:
        return self._inner.attention(shape, sinks, window)

    def mixture(
        self,
        router: torch.Tensor,
        router_bias: torch.Tensor,
        per_token: int,
        experts: ExpertWeights | Mxfp4Experts,
        norm: Norm,
    ) -> SummedMixture:
        return SummedMixture(self._inner.mixture(router, router_bias, per_token, experts, norm), self._group)

    def vocabulary(self, weight: torch.Tensor, norm: Norm) -> Vocabulary:
        """Of this rank's rows alone: see `SharedVocabulary`."""
        return self._inner.vocabulary(weight, norm)


class SharedEmbedding:
    def __init__(self, inner: Embedding, words: slice, group: Group) -> None:
        self._inner, self._words, self._group = inner, words, group

    def __call__(self, token_ids: torch.Tensor) -> torch.Tensor:
        elsewhere = (token_ids < self._words.start) | (token_ids >= self._words.stop)
        x = self._inner((token_ids - self._words.start).masked_fill(elsewhere, 0))
        return self._group.sum(x.masked_fill_(elsewhere.unsqueeze(1), 0))


class SummedLinear:
    def __init__(self, inner: Linear, group: Group) -> None:
        self._inner, self._group = inner, group

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._group.sum(self._inner(x))

    def add_to(self, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return residual + self(x)


class SummedMixture:
    def __init__(self, inner: PartialMixture, group: Group) -> None:
        self._inner, self._group = inner, group

    def add_to(self, residual: torch.Tensor) -> torch.Tensor:
        return residual + self._group.sum(self._inner(residual)) if len(residual) else residual


class TensorExecutor:
    """Rank 0: does its share, and says what the others are to do."""

    def __init__(
        self,
        model: Model,
        cache: torch.Tensor,
        builder: BatchBuilder,
        team: Team,
        group: Group,
        parts: list[Part],
        vocabulary: int,
    ) -> None:
        """`parts`: of all ranks. `vocabulary`: tokens of the whole model."""
        self._model, self._cache, self._builder, self._team = model, cache, builder, team
        words = [part.of(vocabulary) for part in parts]
        self.vocabulary: Vocabulary = SharedVocabulary(model.vocabulary, words, team, group)

    @property
    def lost(self) -> str | None:
        return self._team.lost

    def forward(self, segments: list[Segment], sampled: torch.Tensor | None = None) -> torch.Tensor:
        assert sampled is None, "ranks are told their tokens by the host"
        self._team.tell(Step([segments]))
        with self._team.in_step():
            return self._model.forward(self._builder.build(segments), self._cache)

    def close(self) -> None:
        self._team.close()


class SharedVocabulary:
    """Rank 0's vocabulary: its own rows and, over the group, everybody's."""

    def __init__(self, own: Vocabulary, words: list[slice], team: Team, group: Group) -> None:
        """`words`: the rows of each rank."""
        self._own, self._words, self._team, self._group = own, words, team, group

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        self._team.tell(Logits(len(x)))
        with self._team.in_step():
            self._group.broadcast(x.contiguous())
            parts = [self._own.logits(x)]
            for rank, words in list(enumerate(self._words))[1:]:
                part = parts[0].new_empty(len(x), words.stop - words.start)
                self._group.receive(part, rank)
                parts.append(part)
        return torch.cat(parts, dim=1)

    def likeliest(self, x: torch.Tensor) -> torch.Tensor:
        self._team.tell(Likeliest(len(x)))
        with self._team.in_step():
            self._group.broadcast(x.contiguous())
            found = [largest(self._own, x, self._words[0].start)]
            for rank in range(1, len(self._words)):
                found.append(torch.empty_like(found[0]))
                self._group.receive(found[-1], rank)
            values, tokens = torch.stack(found).unbind(-1)
            best = values.max(dim=0)  # NaN where any rank found one
            token = tokens.gather(0, best.indices.unsqueeze(0)).squeeze(0)
            return torch.where(torch.isfinite(best.values), token, -1).long()


def largest(vocabulary: Vocabulary, x: torch.Tensor, first: int) -> torch.Tensor:
    """float64 [rows, 2]: each row's largest logit, and its token. `first`: the token of the first logit."""
    best = vocabulary.logits(x).max(dim=-1)
    return torch.stack((best.values.double(), (best.indices + first).double()), dim=-1)


class TensorWorker:
    """Any other rank: does what rank 0 says."""

    def __init__(
        self,
        model: Model,
        cache: torch.Tensor,
        builder: BatchBuilder,
        group: Group,
        hidden: Hidden,
        first: int,
    ) -> None:
        """`first`: the token of its vocabulary's first row."""
        self._model, self._cache, self._builder, self._group = model, cache, builder, group
        self._hidden, self._first = hidden, first

    def do(self, message: Message) -> None:
        match message:
            case Step(pieces=pieces):
                for segments in pieces:
                    self._model.forward(self._builder.build(segments), self._cache)
            case Logits(rows=rows):
                self._group.send(self._model.vocabulary.logits(self._receive(rows)), 0).wait()
            case Likeliest(rows=rows):
                found = largest(self._model.vocabulary, self._receive(rows), self._first)
                self._group.send(found, 0).wait()

    def _receive(self, rows: int) -> torch.Tensor:
        x = self._hidden.empty(rows)
        self._group.broadcast(x)
        return x
