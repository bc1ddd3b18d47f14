"""How a step gets computed: by this process alone, or by several."""

from __future__ import annotations

from typing import Protocol

import torch

from gpt_oss_triton.engine.batch import BatchBuilder, Segment
from gpt_oss_triton.engine.decode_graph import DecodeGraphs
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.kernels.operations import Vocabulary


class Executor(Protocol):
    """The model and its cache, wherever they are. Used by one thread.

    Attributes:
        lost: why nothing can be computed any more; None while all is well.
    """

    @property
    def vocabulary(self) -> Vocabulary: ...

    @property
    def lost(self) -> str | None: ...

    def forward(self, segments: list[Segment], sampled: torch.Tensor | None = None) -> torch.Tensor:
        """Compute a step and write its keys and values.

        Args:
            sampled: int64 [rows], what the step before sampled, where tokens of this one are `carried`. Only an executor
                on one device can do that.

        Returns:
            [samples, hidden], what `vocabulary` makes logits or tokens of.
        """
        ...

    def close(self) -> None:
        """Give up what is not this process's memory."""


class LocalExecutor:
    """All of it on one device."""

    lost = None

    def __init__(
        self, model: Model, cache: torch.Tensor, builder: BatchBuilder, graphs: DecodeGraphs | None = None
    ) -> None:
        """`graphs`: for steps of decodes alone."""
        self.vocabulary: Vocabulary = model.vocabulary
        self._model, self._cache, self._builder, self._graphs = model, cache, builder, graphs

    def forward(self, segments: list[Segment], sampled: torch.Tensor | None = None) -> torch.Tensor:
        if self._graphs is not None and self._graphs.fit(segments):
            return self._graphs.replay(segments, sampled)
        return self._model.forward(self._builder.build(segments, sampled), self._cache)

    def close(self) -> None:
        pass
