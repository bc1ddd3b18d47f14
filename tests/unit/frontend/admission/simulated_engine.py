"""An engine that only takes time: continuous batching with chunked prefill, as the scheduler of `engine/` has it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import msgspec

from gpt_oss_triton.wire import Load
from tests.unit.frontend.admission.virtual_time import now
from tests.unit.frontend.fake_triton import LOAD

BLOCK = 16
VISIBLE = 4  # the first token that a client sees: harmony's header comes before it


@dataclass(eq=False)
class Sequence:
    prompt: int
    output: int
    arrived: float
    first_token: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    computed: int = 0
    produced: int = 0

    @property
    def blocks(self) -> int:
        return math.ceil((self.prompt + self.produced) / BLOCK)


class SimulatedEngine:
    """Times of a step are seconds: its own, for each sequence, and for each token of a prompt."""

    def __init__(
        self,
        *,
        max_sequences: int = 64,
        blocks: int = 4000,
        step_tokens: int = 512,
        step_s: float = 0.015,
        sequence_s: float = 0.0012,
        prompt_token_s: float = 0.00025,
    ) -> None:
        self.max_sequences = max_sequences
        self.blocks = blocks
        self.step_tokens = step_tokens
        self.times = (step_s, sequence_s, prompt_token_s)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.steps = self.tokens = 0
        self.most_blocks = 0
        self._work = asyncio.Event()

    def submit(self, prompt: int, output: int) -> Sequence:
        sequence = Sequence(prompt, output, now())
        self.waiting.append(sequence)
        self._work.set()
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        for place in (self.waiting, self.running):
            if sequence in place:
                place.remove(sequence)

    def load(self) -> Load:
        return msgspec.structs.replace(
            LOAD,
            running=len(self.running),
            waiting=len(self.waiting),
            blocks_total=self.blocks,
            blocks_used=self.used,
            block_size=BLOCK,
            max_context=100_000,
            max_sequences=self.max_sequences,
            steps=self.steps,
            output_tokens=self.tokens,
            queue_wait_s=now() - self.waiting[0].arrived if self.waiting else 0.0,
        )

    @property
    def used(self) -> int:
        return sum(sequence.blocks for sequence in self.running)

    async def run(self) -> None:
        while True:
            if not self.waiting and not self.running:
                self._work.clear()
                await self._work.wait()
            await self._step()

    async def _step(self) -> None:
        decodes = [s for s in self.running if s.computed >= s.prompt]
        budget = self.step_tokens - len(decodes)
        chunks: list[tuple[Sequence, int]] = []
        for sequence in self.running:
            if budget > 0 and sequence.computed < sequence.prompt:
                chunks.append((sequence, min(budget, sequence.prompt - sequence.computed)))
                budget -= chunks[-1][1]
        while budget > 0 and self.waiting and self._fits(self.waiting[0]):
            sequence = self.waiting.pop(0)
            self.running.append(sequence)
            chunks.append((sequence, min(budget, sequence.prompt)))
            budget -= chunks[-1][1]
        per_step, per_sequence, per_token = self.times
        prompt_tokens = sum(tokens for _, tokens in chunks)
        await asyncio.sleep(per_step + per_sequence * len(self.running) + per_token * prompt_tokens)
        self.steps += 1
        for sequence, tokens in chunks:
            sequence.computed += tokens
        for sequence in [*decodes, *(s for s, _ in chunks if s.computed >= s.prompt)]:
            sequence.produced += 1
            self.tokens += 1
            if sequence.produced == VISIBLE:
                sequence.first_token.set()
            if sequence.produced >= sequence.output and sequence in self.running:
                self.running.remove(sequence)
                sequence.ended.set()
        self.most_blocks = max(self.most_blocks, self.used)

    def _fits(self, sequence: Sequence) -> bool:
        needed = sequence.blocks + len(self.running)
        return len(self.running) < self.max_sequences and self.used + needed <= self.blocks
