"""One request's token state while the engine works on it."""

from __future__ import annotations

import time
from collections.abc import Callable

from gpt_oss_triton.engine.kv_cache import BlockHash, chain_hash, first_link
from gpt_oss_triton.engine.protocol import EngineEvent, EngineRequest, SequenceFinished
from gpt_oss_triton.engine.sampler import RowSampling
from gpt_oss_triton.engine.speculation import PromptLookup
from gpt_oss_triton.wire import FinishReason, Timings


class Sequence:
    """Prompt and output tokens, how far they are computed, and the blocks that hold the result.

    Attributes:
        token_ids: prompt, then output; the last one may not be computed yet.
        computed: leading tokens whose keys and values are in `blocks`.
        names: names of the leading full blocks, as far as tokens are known.
        limit: output tokens at most.
        lookup: guesses at what comes next.
        found_tokens: leading tokens of the prompt that the prefix cache held when it came, or will hold when its
            wait for `awaited` is over.
        awaited: name of the last block that a running sequence computes and this one waits for.
        finish_reason: set once, when the sequence is over.
    """

    def __init__(
        self,
        request: EngineRequest,
        deliver: Callable[[EngineEvent], None],
        *,
        limit: int,
        eos_token_ids: frozenset[int],
        sampling: RowSampling,
        block_size: int,
    ) -> None:
        self.request = request
        self.deliver = deliver
        self.sampling = sampling
        self.limit = limit
        self.token_ids = list(request.prompt_token_ids)
        self.prompt_tokens = len(self.token_ids)
        self.computed = 0
        self.found_tokens = 0
        self.awaited: BlockHash | None = None
        self.lookup = PromptLookup(self.token_ids)
        self.cached_tokens = 0  # of the prompt, when it first ran
        self.blocks: list[int] = []
        self.names: list[BlockHash] = []
        self.submitted = False  # the engine's thread may work on it
        self.preemptions = 0
        self.finish_reason: FinishReason | None = None
        self.stop: str | int | None = None
        self._stop_ids = frozenset(request.options.stop_token_ids)
        if not request.options.ignore_eos:
            self._stop_ids |= eos_token_ids
        self._block_size = block_size
        self.scheduled_at: float | None = None
        self._first_token_at: float | None = None
        self.name_blocks()

    @property
    def output_tokens(self) -> int:
        return len(self.token_ids) - self.prompt_tokens

    @property
    def uncomputed(self) -> int:
        return len(self.token_ids) - self.computed

    @property
    def prefill_left(self) -> int:
        """Prompt tokens that are to be computed yet, as far as the prefix cache tells."""
        return max(0, self.prompt_tokens - (self.computed if self.blocks else self.found_tokens))

    def name_blocks(self) -> None:
        """Extend `names` over every block that the known tokens fill."""
        size = self._block_size
        while (len(self.names) + 1) * size <= len(self.token_ids):
            begin = len(self.names) * size
            previous = self.names[-1] if self.names else first_link(self.request.options.cache_salt)
            self.names.append(chain_hash(previous, self.token_ids[begin : begin + size]))

    def reusable_names(self) -> list[BlockHash]:
        """Names of the blocks worth looking for: one token at least must be computed to sample the next."""
        return self.names[: (len(self.token_ids) - 1) // self._block_size]

    def published_names(self) -> list[BlockHash]:
        """Names of the blocks that are full and computed."""
        return self.names[: self.computed // self._block_size]

    def append(self, token: int) -> None:
        """Take a sampled token and decide whether it is the last."""
        if self._first_token_at is None:
            self._first_token_at = time.time()
        self.token_ids.append(token)
        self.name_blocks()
        matched = self.request.stop_text(token) if self.request.stop_text is not None else None
        if token in self._stop_ids:
            self.finish_reason, self.stop = "stop", token
        elif matched is not None:
            self.finish_reason, self.stop = "stop", matched
        elif self.output_tokens >= self.limit:
            self.finish_reason = "length"
        else:
            self.sampling.observe(token)

    def finished(self) -> SequenceFinished:
        """The terminal event of a sequence whose `finish_reason` is set."""
        assert self.finish_reason is not None
        return SequenceFinished(
            finish_reason=self.finish_reason,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.output_tokens,
            cached_tokens=self.cached_tokens,
            stop=self.stop,
            preemptions=self.preemptions,
            blocks=len(self.blocks),
            timings=Timings(
                arrived=self.request.arrived,
                scheduled=self.scheduled_at,
                first_token=self._first_token_at,
                finished=time.time(),
            ),
        )
