"""From logits to token ids, each row by its own rules.

A row's randomness is a function of its seed and of how many tokens it has produced, so a seeded request
draws the same numbers whatever shares its batch, and again after a preemption. (Its logits may still differ
in the last bits between batches of different sizes.)

Order of operations, as in the field's other servers: penalties and bias, temperature, top-k, top-p over what
top-k left, min-p. Full sorts of the vocabulary are avoided: the best `CANDIDATES` logits nearly always hold
all that a cut leaves, and rows where they might not are drawn again from all.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

import torch

from gpt_oss_triton.kernels.operations import Vocabulary
from gpt_oss_triton.kernels.sampling import draw, invert
from gpt_oss_triton.wire import GenerationOptions

CANDIDATES = 1024
GREEDY_BELOW = 1e-5  # a temperature so low leaves nothing to draw, and dividing by it overflows


class RowSampling:
    """One sequence's sampling rules and what they must remember of its tokens.

    Tensors over the vocabulary are made when the row is first sampled: a waiting request holds none.
    """

    def __init__(
        self,
        options: GenerationOptions,
        prompt_token_ids: Sequence[int],
        vocabulary: int,
        device: torch.device,
    ) -> None:
        self.options = options
        self.drawn = 0  # output tokens so far
        self.greedy = options.temperature < GREEDY_BELOW
        self._seed = secrets.randbits(64) if options.seed is None else options.seed
        self._prompt_token_ids = prompt_token_ids
        self._vocabulary = vocabulary
        self._device = device
        self._prepared = False
        self._counts: torch.Tensor | None = None  # of each output token
        self._seen: torch.Tensor | None = None  # which tokens occurred, the prompt's included

    @property
    def adjusts(self) -> bool:
        o = self.options
        penalties = (o.frequency_penalty, o.presence_penalty, o.repetition_penalty)
        return penalties != (0, 0, 1) or bool(o.logit_bias)

    @property
    def truncates(self) -> bool:
        return self.options.top_k > 0 or self.options.top_p < 1 or self.options.min_p > 0

    def observe(self, token: int) -> None:
        """A token was sampled."""
        self.drawn += 1
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True

    def adjust(self, logits: torch.Tensor) -> None:
        """Apply penalties and bias in place to float32 `logits` [vocabulary]."""
        o = self.options
        if not self._prepared:
            self._prepare()
        if self._seen is not None:
            penalized = torch.where(logits > 0, logits / o.repetition_penalty, logits * o.repetition_penalty)
            torch.where(self._seen, penalized, logits, out=logits)
        if self._counts is not None:
            logits -= o.frequency_penalty * self._counts + o.presence_penalty * (self._counts > 0)
        if o.logit_bias:
            logits[self._bias_ids] += self._bias

    @torch.inference_mode(False)  # called within a step, but these are updated outside of it, too
    def _prepare(self) -> None:
        o, device = self.options, self._device
        self._prepared = True
        if o.frequency_penalty != 0 or o.presence_penalty != 0:
            self._counts = torch.zeros(self._vocabulary, device=device)
        if o.repetition_penalty != 1:
            self._seen = torch.zeros(self._vocabulary, dtype=torch.bool, device=device)
            self._seen[torch.tensor(self._prompt_token_ids, device=device)] = True
        self._bias_ids = torch.tensor(list(o.logit_bias), dtype=torch.int64, device=device)
        self._bias = torch.tensor(list(o.logit_bias.values()), dtype=torch.float32, device=device)

    def uniform(self) -> float:
        """The number in [0, 1) that draws the next token."""
        key = self._seed.to_bytes(8, "little") + self.drawn.to_bytes(8, "little")
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") / 2**64


def sample_hidden(
    hidden: torch.Tensor, rows: Sequence[RowSampling], vocabulary: Vocabulary
) -> list[int | None]:
    """`sample` of the logits that `vocabulary` makes of `hidden` [rows, hidden]: made only where they are needed."""
    plain = [n for n, row in enumerate(rows) if row.greedy and not row.adjusts]
    others = [n for n, row in enumerate(rows) if not row.greedy or row.adjusts]
    tokens: list[int | None] = [None] * len(rows)
    for chosen, found in (
        (plain, vocabulary.likeliest),
        (others, lambda x: sample(vocabulary.logits(x), [rows[n] for n in others])),
    ):
        if chosen:
            part = hidden if len(chosen) == len(rows) else hidden[chosen]
            for n, token in zip(chosen, found(part), strict=True):
                tokens[n] = token
    return tokens


def sample(logits: torch.Tensor, rows: Sequence[RowSampling]) -> list[int | None]:
    """One token id for each row of `logits` [rows, vocabulary]; None for a row that holds no numbers."""
    if not all(row.greedy and not row.adjusts for row in rows):
        logits = logits.float()
        for n, row in enumerate(rows):
            if row.adjusts:
                row.adjust(logits[n])
    best = logits.max(dim=-1)
    tokens: list[int | None] = best.indices.tolist()
    for find, truncated in ((_draw, False), (_draw_truncated, True)):
        chosen = [n for n, row in enumerate(rows) if not row.greedy and row.truncates == truncated]
        if chosen:
            part = logits if len(chosen) == len(rows) else logits[chosen]
            for n, token in zip(chosen, find(part, [rows[n] for n in chosen]), strict=True):
                tokens[n] = token
    # The largest of a row is NaN when any of it is, and infinite when the computation overflowed.
    sound = torch.isfinite(best.values).tolist()
    return [token if ok else None for token, ok in zip(tokens, sound, strict=True)]


def _draw(logits: torch.Tensor, rows: Sequence[RowSampling]) -> list[int]:
    return draw(logits, [row.options.temperature for row in rows], [row.uniform() for row in rows])


def _draw_truncated(logits: torch.Tensor, rows: Sequence[RowSampling]) -> list[int]:
    heat = torch.tensor([row.options.temperature for row in rows], device=logits.device)
    return _draw_kept(logits / heat.unsqueeze(1), rows, CANDIDATES)


def _draw_kept(logits: torch.Tensor, rows: Sequence[RowSampling], candidates: int) -> list[int]:
    """From what the rows' cuts leave of `logits`, looked for among the best `candidates`."""
    vocabulary = logits.shape[-1]
    candidates = min(candidates, vocabulary)
    best = logits.topk(candidates, dim=-1)
    options = [row.options for row in rows]
    top_k = torch.tensor([o.top_k or vocabulary for o in options], device=logits.device).unsqueeze(1)
    top_p = torch.tensor([o.top_p for o in options], device=logits.device).unsqueeze(1)
    min_p = torch.tensor([o.min_p for o in options], device=logits.device).unsqueeze(1)
    p = torch.exp(best.values - logits.logsumexp(dim=-1, keepdim=True))
    within_k = torch.arange(candidates, device=logits.device) < top_k
    p = p * within_k
    mass = torch.where(top_k <= candidates, p.sum(dim=-1, keepdim=True), 1.0)
    before = p.cumsum(dim=-1) - p  # mass of the better ones
    keep = within_k & ((before < top_p * mass) | (top_p >= 1)) & (p >= min_p * p[:, :1])
    keep[:, 0] = True
    index = invert(p * keep, [row.uniform() for row in rows])
    drawn: list[int] = best.indices.gather(1, index.unsqueeze(1)).squeeze(1).tolist()
    if candidates < vocabulary:
        # The last candidate survived every cut, so a token that is not among them might as well.
        unsure = (keep[:, -1] & (top_k.squeeze(1) > candidates)).nonzero().flatten().tolist()
        if unsure:
            again = _draw_kept(logits[unsure], [rows[n] for n in unsure], vocabulary)
            for n, token in zip(unsure, again, strict=True):
                drawn[n] = token
    return drawn
