"""Pipeline parallelism: each rank holds consecutive layers, and hidden states go round.

Rank 0 has the embedding and the first layers; the last rank sends what is sampled back to it, for it has the
vocabulary as well. A large step is cut into pieces that follow one another through the ranks, so that all of them
work at the same time. Pieces go by tokens: one that continues a sequence finds the keys of those before it in the
cache of every rank, for it comes after them everywhere.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.model import Layers, Model
from gpt_oss_triton.engine.parallel.group import Group, Hidden
from gpt_oss_triton.engine.parallel.messages import Message, Step
from gpt_oss_triton.engine.parallel.team import Team
from gpt_oss_triton.kernels.operations import Vocabulary

# A piece reads all weights once more, so a small one costs as much as a large one: below this many tokens reading
# is what takes the time, and cutting would only add to it.
PIECE_TOKENS = 128


def cut(segments: list[Segment], ranks: int) -> list[list[Segment]]:
    """The step in up to `ranks` pieces of about equal size, tokens in their order. What is sampled of a sequence stays
    together."""
    tokens = sum(len(segment.token_ids) for segment in segments)
    count = max(1, min(ranks, tokens // PIECE_TOKENS))
    size = -(-tokens // count)
    pieces: list[list[Segment]] = [[]]
    room = size
    for segment in segments:
        rest = segment
        while len(rest.token_ids) > room and not rest.drafted:
            if room > 0:
                head, rest = _split(rest, room)
                pieces[-1].append(head)
            pieces.append([])
            room = size
        pieces[-1].append(rest)
        room -= len(rest.token_ids)
    return pieces


def _split(segment: Segment, tokens: int) -> tuple[Segment, Segment]:
    head = replace(segment, token_ids=segment.token_ids[:tokens], sample=False)
    return head, replace(segment, token_ids=segment.token_ids[tokens:], start=segment.start + tokens)


def _samples(segments: list[Segment]) -> int:
    """Rows whose logits are wanted."""
    return sum(1 + segment.drafted for segment in segments if segment.sample)


class PipelineExecutor:
    """Rank 0."""

    def __init__(
        self, model: Model, cache: torch.Tensor, builder: BatchBuilder, team: Team, group: Group
    ) -> None:
        self.vocabulary: Vocabulary = model.vocabulary
        self._model, self._cache, self._builder, self._team, self._group = model, cache, builder, team, group

    @property
    def lost(self) -> str | None:
        return self._team.lost

    def forward(self, segments: list[Segment], sampled: torch.Tensor | None = None) -> torch.Tensor:
        assert sampled is None, "ranks are told their tokens by the host"
        pieces = cut(segments, self._group.ranks)
        self._team.tell(Step(pieces))
        with self._team.in_step():
            sent = []
            for piece in pieces:
                batch = self._builder.build(piece)
                x = self._model.forward(batch, self._cache)
                sent.append((self._group.send(x, 1), x))
            hidden = x.new_empty(_samples(segments), x.shape[1])
            first = 0
            for piece in pieces:
                last = first + _samples(piece)
                if last > first:
                    self._group.receive(hidden[first:last], self._group.ranks - 1)
                first = last
            for work, _ in sent:
                work.wait()
        return hidden

    def close(self) -> None:
        self._team.close()


class PipelineWorker:
    """Any other rank: takes hidden states from the rank before it and hands them on."""

    def __init__(
        self, layers: Layers, cache: torch.Tensor, builder: BatchBuilder, group: Group, hidden: Hidden
    ) -> None:
        self._layers, self._cache, self._builder, self._group = layers, cache, builder, group
        self._hidden = hidden

    def do(self, message: Message) -> None:
        assert isinstance(message, Step), "the vocabulary is rank 0's"
        sent = []
        for piece in message.pieces:
            batch = self._builder.build(piece)
            x = self._hidden.empty(len(batch.token_ids))
            self._group.receive(x, self._group.rank - 1)
            x = self._layers.forward(x, batch, self._cache)
            if len(x):
                sent.append((self._group.send(x, (self._group.rank + 1) % self._group.ranks), x))
        for work, _ in sent:  # and what is sent must live until then
            work.wait()
