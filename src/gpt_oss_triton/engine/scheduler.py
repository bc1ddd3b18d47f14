"""Which tokens the next step computes.

Running sequences come first: every decode gets its one token, then prompts fill what the token budget
leaves, in the order they were admitted, then waiting sequences are admitted while blocks last. One whose next
blocks are just being computed for another waits until they are, and those behind it go first. A step of a few
decodes and nothing else is filled up with drafts of what follows them.

When a decode needs a block and none is left, the sequence admitted last gives up its blocks and waits again,
first in line; what its blocks hold stays findable, so coming back is cheap unless they are needed. What sessions
lease counts as left: their leases end before anyone gives way. A chunk of a prompt takes its window blocks when it is
scheduled, and is as long as there are blocks for. Beside decodes, prompts that take more than a step keep to a pace.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

from gpt_oss_triton.engine import speculation
from gpt_oss_triton.engine.block_tables import BlockTables
from gpt_oss_triton.engine.kv_cache import BlockPool
from gpt_oss_triton.engine.leases import Leases
from gpt_oss_triton.engine.prompt_pace import PromptPace
from gpt_oss_triton.engine.sequence import Sequence
from gpt_oss_triton.engine.under_way import BlocksUnderWay


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next `tokens` uncomputed tokens of a sequence, from position `start` on.

    Attributes:
        samples: it reaches the sequence's last token, so that the next one can be sampled.
        draft: what may follow that token, the last of `tokens`.
    """

    sequence: Sequence
    start: int
    tokens: int
    samples: bool
    draft: tuple[int, ...] = ()

    @classmethod
    def next_of(cls, sequence: Sequence, most: int) -> Chunk:
        tokens = min(most, sequence.uncomputed)
        return cls(sequence, sequence.begun, tokens, samples=tokens == sequence.uncomputed)

    @property
    def prompt_tokens(self) -> int:
        """How many of them are the prompt's."""
        return max(0, min(self.tokens, self.sequence.prompt_tokens - self.start))


@dataclass(slots=True)
class Budget:
    """Prompt tokens that a step has left.

    Attributes:
        long: how many of them prompts may take that need more than one step.
    """

    tokens: int
    long: int

    def spend(self, tokens: int, *, long: bool) -> None:
        self.tokens -= tokens
        self.long = min(self.tokens, self.long - tokens * long)


class Scheduler:
    """Owns the queue, the running set and, through the pool, every block. Used under the engine's lock.

    Attributes:
        max_step_tokens: of one step, as tuned now.
    """

    def __init__(
        self,
        pool: BlockPool,
        leases: Leases,
        *,
        window: int,
        max_sequences: int,
        max_step_tokens: int,
        pace: PromptPace,
        speculates: bool = False,
    ) -> None:
        """
        Args:
            window: tokens that a sliding layer sees.
            pace: of long prompts beside decodes.
            speculates: small steps are filled up with drafts.
        """
        self.pool = pool
        self.leases = leases
        self.tables = BlockTables(pool, leases, window)
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []  # in the order they were admitted
        self.preemptions = 0
        self._under_way = BlocksUnderWay()
        self._pace = pace
        self._max_sequences = max_sequences
        self._speculates = speculates
        self.configured_step_tokens = max_step_tokens
        self.tune(None)

    def tune(self, max_step_tokens: int | None) -> None:
        """See `protocol.Engine.tune`."""
        most = self.configured_step_tokens
        wanted = most if max_step_tokens is None else min(max_step_tokens, most)
        # A step must hold one token of every running sequence, or the last ones would starve.
        self.max_step_tokens = max(wanted, self._max_sequences)

    def add(self, sequence: Sequence) -> None:
        self.waiting.append(sequence)
        if (lease := sequence.request.options.lease) is not None:
            self.leases.renew(lease)

    def schedule(self, *, flying: bool = False) -> list[Chunk]:
        """The next step's chunks, single tokens first; empty only when there is nothing to do.

        Args:
            flying: the last step's end has not been waited for. Then it is empty, too, when nothing can be done before.
        """
        if flying and not self._can_go_ahead():
            return []
        decodes = self._decodes()
        most = self.max_step_tokens - len(decodes)
        budget = Budget(most, self._pace.tokens(most) if decodes else most)
        prefills = self._prefills(budget)
        while self.running and not (
            decodes or prefills or flying
        ):  # they hold all blocks, and none can go on
            self._preempt(self.running[-1])
            prefills = self._prefills(budget)
        prefills += self._admissions(budget)
        if self._speculates and not prefills and len(decodes) <= speculation.MAX_SEQUENCES:
            decodes = self._with_drafts(decodes)
        return sorted([*decodes, *prefills], key=lambda chunk: chunk.tokens > 1)

    def launched(self, chunks: list[Chunk]) -> None:
        """The chunks are being computed. What is scheduled before they have `landed` goes on from there."""
        for chunk in chunks:
            chunk.sequence.flying += chunk.tokens
            chunk.sequence.unknown += chunk.samples

    def landed(self, chunks: list[Chunk]) -> None:
        """The chunks are computed, and the sequences are about to take what was sampled."""
        for chunk in chunks:
            chunk.sequence.unknown -= chunk.samples
            chunk.sequence.flying -= chunk.tokens

    def commit(self, chunks: list[Chunk], seconds: float) -> None:
        """What the chunks computed is sound: their full blocks may be shared. The sequences have taken what was sampled.

        Args:
            seconds: that the step took.
        """
        longer = [chunk.tokens for chunk in chunks if chunk.tokens - len(chunk.draft) > 1]
        self._pace.observe(len(chunks) - len(longer), sum(longer), seconds)
        for chunk in chunks:
            sequence = chunk.sequence
            computed = chunk.start + chunk.tokens
            if chunk.draft:  # what was wrong in it is computed over
                computed = min(computed, len(sequence.token_ids) - 1)
            for name in self.tables.computed(sequence, computed):
                self._under_way.computed(name)

    def found_tokens(self, sequence: Sequence) -> int:
        """Its first tokens that the cache holds now."""
        return len(self.tables.find(sequence.reusable_names()).blocks) * self.pool.block_size

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is, and free its blocks. One that came to its own end leaves those
        that may be shared to its session."""
        lease = sequence.request.options.lease
        if lease is not None and sequence.finish_reason in ("stop", "length"):
            self.tables.lease(sequence, lease)
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self._release(sequence)

    def disown(self, sequence: Sequence) -> None:
        """Nobody else may use what its blocks hold."""
        self.tables.disown(sequence)

    def _can_go_ahead(self) -> bool:
        """Whether the next step can be launched before the last one's tokens are known: nobody has to be preempted, who
        might be about to end."""
        missing = sum(
            self.tables.missing(sequence) for sequence in self.running if self._decodes_next(sequence)
        )
        return missing <= self.pool.available

    @staticmethod
    def _decodes_next(sequence: Sequence) -> bool:
        return bool(sequence.blocks) and sequence.uncomputed == 1 and not sequence.ends_flying

    def _decodes(self) -> list[Chunk]:
        chunks = []
        for sequence in list(self.running):
            # Growing one sequence may preempt others, but only later ones: none that is in `chunks` already.
            if self._decodes_next(sequence) and self._grow(sequence):
                chunks.append(Chunk.next_of(sequence, 1))
        return chunks

    def _prefills(self, budget: Budget) -> list[Chunk]:
        running = (sequence for sequence in self.running if sequence.uncomputed > 1)
        return [chunk for sequence in running if (chunk := self._chunk(sequence, budget))]

    def _chunk(self, sequence: Sequence, budget: Budget) -> Chunk | None:
        """A sequence's next chunk, with window blocks for it; None when none are left."""
        most = min(self._share(sequence, budget), self.tables.room(sequence))
        if most <= 0:
            return None
        chunk = Chunk.next_of(sequence, most)
        self.tables.cover(sequence, chunk.tokens)
        budget.spend(chunk.tokens, long=self._is_long(sequence))
        return chunk

    def _share(self, sequence: Sequence, budget: Budget) -> int:
        return budget.long if self._is_long(sequence) else budget.tokens

    def _is_long(self, sequence: Sequence) -> bool:
        """Its prompt takes more than a step: others would feel more than one hitch."""
        return sequence.prompt_tokens - sequence.found_tokens > self.max_step_tokens

    def _admissions(self, budget: Budget) -> list[Chunk]:
        """First chunks of waiting sequences, which run from now on."""
        chunks: list[Chunk] = []
        if budget.tokens <= 0 or len(self.running) >= self._max_sequences:
            return chunks
        for sequence in list(self.waiting):
            # In this order: what it awaits may make a long prompt short, and is found only while it is under way.
            if self._awaits(sequence) or self._share(sequence, budget) <= 0:
                continue
            chunk = self._admit(sequence, budget)
            if chunk is None:
                break
            chunks.append(chunk)
            if budget.tokens <= 0 or len(self.running) >= self._max_sequences:
                break
        return chunks

    def _awaits(self, sequence: Sequence) -> bool:
        """Whether a running sequence computes the blocks that this one would have to begin with."""
        if sequence.awaited in self._under_way:
            return True
        names = sequence.reusable_names()
        found = len(self.tables.find(names).blocks)
        coming = self._under_way.leading(names[found:])
        sequence.awaited = names[found + coming - 1] if coming else None
        sequence.found_tokens = (found + coming) * self.pool.block_size
        return coming > 0

    def _with_drafts(self, decodes: list[Chunk]) -> list[Chunk]:
        """A draft may have the room that is left in the sequence's blocks and in the step."""
        budget = self.max_step_tokens - len(decodes)
        chunks = []
        for chunk in decodes:
            sequence = chunk.sequence
            room = len(sequence.blocks) * self.pool.block_size - len(sequence.token_ids)
            left = sequence.limit - sequence.output_tokens - 1
            draft = sequence.draft(min(room, left, budget))
            budget -= len(draft)
            chunks.append(replace(chunk, tokens=1 + len(draft), draft=tuple(draft)))
        return chunks

    def _grow(self, sequence: Sequence) -> bool:
        """Make room for the sequence's known tokens; False when it had to give way itself."""
        while (missing := self.tables.missing(sequence)) > 0:
            if self.pool.available >= missing:
                self.tables.extend(sequence)
            elif (victim := self.running[-1]) is sequence:
                self._preempt(victim)
                return False
            else:
                self._preempt(victim)
        return True

    def _admit(self, sequence: Sequence, budget: Budget) -> Chunk | None:
        """The first chunk of a waiting sequence, which runs from now on, with full blocks for all its known tokens; None
        when blocks are short."""
        prefix = self.tables.find(sequence.reusable_names())
        left = len(sequence.token_ids) - len(prefix.blocks) * self.pool.block_size
        # Tokens of a chunk worth beginning with.
        least = min(self._share(sequence, budget), left, self.tables.shape.window)
        # Spare blocks for each running sequence, or the newcomer would be preempted at once.
        spare = self.tables.shape.kinds * len(self.running)
        if self.pool.available < self.tables.cost(sequence, prefix, least) + spare:
            return None
        self.waiting.remove(sequence)
        self.tables.begin(sequence, prefix)
        sequence.found_tokens = sequence.computed
        if sequence.scheduled_at is None:
            sequence.scheduled_at = time.time()
            sequence.cached_tokens = sequence.computed
        self.running.append(sequence)
        if self.pool.keeps_prefixes:
            self._under_way.begin(sequence, sequence.names[len(prefix.blocks) :])
        return self._chunk(sequence, budget)

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.preemptions += 1
        self.preemptions += 1
        self.waiting.appendleft(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._under_way.stop(sequence, sequence.names[sequence.computed // self.pool.block_size :])
        self.tables.release(sequence)
