"""One request's token state while the engine works on it."""

from __future__ import annotations

from collections.abc import Callable
from itertools import takewhile

from gpt_oss_triton.engine.answer_progress import AnswerProgress
from gpt_oss_triton.engine.kv_cache import BlockHash, chain_hash, first_link
from gpt_oss_triton.engine.protocol import EngineEvent, EngineRequest
from gpt_oss_triton.engine.sampler import RowSampling
from gpt_oss_triton.engine.speculation import PromptLookup


class Sequence(AnswerProgress):
    """Prompt and output tokens, how far they are computed, and the blocks that hold the result.

    Attributes:
        token_ids: prompt, then output; the last one may not be computed yet.
        computed: leading tokens whose keys and values are in the blocks.
        flying: tokens behind these that launched steps compute.
        unknown: tokens behind `token_ids` that launched steps sample.
        blocks: of the full layers.
        window_blocks: of the sliding layers, those before `window_first` given back; see `block_tables`.
        names: names of the leading full blocks, as far as tokens are known.
        lookup: guesses at what comes next.
        found_tokens: leading tokens of the prompt that the prefix cache held when it was last looked into, or will hold when
            the wait for `awaited` is over.
        awaited: name of the last block that a running sequence computes and this one waits for.
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
        super().__init__(request, limit, eos_token_ids)
        self.deliver = deliver
        self.sampling = sampling
        self.token_ids = list(request.prompt_token_ids)
        self.computed = 0
        self.flying = 0
        self.unknown = 0
        self.found_tokens = 0
        self.awaited: BlockHash | None = None
        self.lookup = PromptLookup(self.token_ids)
        self.blocks: list[int] = []
        self.window_blocks: list[int] = []
        self.window_first = 0
        self.names: list[BlockHash] = []
        self.submitted = False  # the engine's thread may work on it
        self.preemptions = 0
        self._block_size = block_size
        self.name_blocks()

    @property
    def length(self) -> int:
        """Tokens, that which is being sampled included."""
        return len(self.token_ids) + self.unknown

    @property
    def begun(self) -> int:
        """Leading tokens that are computed or being computed."""
        return self.computed + self.flying

    @property
    def uncomputed(self) -> int:
        return self.length - self.begun

    @property
    def ends_flying(self) -> bool:
        """What is being sampled is its last token for sure."""
        return self.output_tokens + self.unknown >= self.limit

    @property
    def held_window_blocks(self) -> list[int]:
        return self.window_blocks[self.window_first :]

    @property
    def blocks_held(self) -> int:
        """Of both kinds."""
        return len(self.blocks) + len(self.window_blocks) - self.window_first

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

    def draft(self, most: int) -> list[int]:
        """Up to `most` tokens that may follow: those that its grammar forces, or else a guess."""
        if most < 1 or self.sampling.penalizes:  # then a token's distribution depends on those before it
            return []
        if self.sampling.matcher is None:
            return self.lookup.draft(most)
        forced = self.sampling.matcher.forced()[:most]
        return list(takewhile(lambda token: token not in self.stop_ids, forced))

    def append(self, token: int) -> None:
        """Take a sampled token. Raises what the request's `stop_text` raises."""
        self.token_ids.append(token)
        self.name_blocks()
        self.take(token)
        if self.finish_reason is None:
            self.sampling.observe(token)
