"""Draws a token from each row's distribution, and tells how probable it was.

What the cuts keep is defined by order: the best logits first, of equal ones that with the lower index. Top-k keeps so
many; top-p the fewest of those whose share of their probability reaches it; min-p those that are at least so probable
as a share of the likeliest. The draw inverts the cumulative sum of what is kept, in the vocabulary's order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from gpt_oss_triton.kernels.cpu import library
from gpt_oss_triton.kernels.transfer import Download, send, upload

MAX_TOP = library.MAX_TOP
CANDIDATES = 1024  # the best logits, among which the reference looks for the last one that is kept


@dataclass(frozen=True, slots=True)
class Rule:
    """How one row is drawn.

    Attributes:
        temperature: 0: the likeliest token; its log-probabilities are those of temperature 1 without cuts.
        uniform: the number in [0, 1) that decides.
        top_k: 0: off.
        top: how many log-probabilities are wanted beside the drawn token's, at most `MAX_TOP`; None: none at all.
    """

    temperature: float
    uniform: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    top: int | None = None

    @property
    def cuts(self) -> bool:
        return self.temperature > 0 and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A token; where they were asked for, natural logarithms of its and of the likeliest tokens' probabilities, best
    first. Those are fewer than asked for where fewer can be drawn."""

    token: int
    logprob: float = 0.0
    top: tuple[tuple[int, float], ...] = ()


class Draws(Protocol):
    """
    Attributes:
        tokens: int64 [rows] on the logits' device, -1 for a row that holds no numbers. The device may still compute
            them.
    """

    @property
    def tokens(self) -> torch.Tensor: ...

    def read(self) -> list[Drawn | None]:
        """Wait for them. None for a row that holds what is no number, but for -inf, which is a token that cannot be
        drawn."""
        ...


def draw(logits: torch.Tensor, rules: Sequence[Rule]) -> Draws:
    """One token for each row of float32 `logits` [rows, vocabulary]."""
    if logits.device.type == "cpu" and library.why_unavailable() is None:
        return CpuDraws(logits, rules)
    return ReferenceDraws(logits, rules)


def forbid(logits: torch.Tensor, allowed: torch.Tensor) -> None:
    """Set -inf in one row [vocabulary], in place, wherever the bits of int32 `allowed` [vocabulary / 32], which lies in
    the CPU's memory, are not set."""
    if logits.device.type == "cpu" and library.why_unavailable() is None:
        library.load().forbid_tokens(logits.data_ptr(), len(logits), allowed.data_ptr())
    else:
        forbid_reference(logits, allowed)


# ---------------------------------------------------------------------------------------------- CPU


class CpuDraws:
    """`source/sampling.hpp`: a few passes over each row, and no sort."""

    def __init__(self, logits: torch.Tensor, rules: Sequence[Rule]) -> None:
        logits = logits.contiguous()
        asked = (library.Rule * len(rules))(*[_c_rule(rule) for rule in rules])
        self._rules = rules
        self._drawn = (library.Drawn * len(rules))()
        library.load().draw_tokens(
            torch.get_num_threads(), logits.data_ptr(), *logits.shape, asked, self._drawn
        )

    @property
    def tokens(self) -> torch.Tensor:
        return torch.tensor([one.token for one in self._drawn])

    def read(self) -> list[Drawn | None]:
        return [_drawn(one, rule) for one, rule in zip(self._drawn, self._rules, strict=True)]


def _c_rule(rule: Rule) -> library.Rule:
    top = -1 if rule.top is None else rule.top
    return library.Rule(rule.uniform, rule.temperature, rule.top_p, rule.min_p, rule.top_k, top)


def _drawn(found: library.Drawn, rule: Rule) -> Drawn | None:
    if found.token < 0:
        return None
    if rule.top is None:
        return Drawn(found.token)
    n = found.top_count
    return Drawn(
        found.token, found.logprob, tuple(zip(found.top_tokens[:n], found.top_logprobs[:n], strict=True))
    )


# ---------------------------------------------------------------------------------------- reference


class ReferenceDraws:
    """In plain torch, on any device. The host waits for it where top-p is below 1 or top-k above `CANDIDATES`."""

    def __init__(self, logits: torch.Tensor, rules: Sequence[Rule]) -> None:
        device = logits.device
        heat = upload([r.temperature or 1.0 for r in rules], device, torch.float32).unsqueeze(1)
        largest = logits.max(dim=-1, keepdim=True)
        weights = torch.exp((logits - largest.values) / heat)
        if any(rule.cuts for rule in rules):
            weights = weights * _kept(logits, weights, rules)
        total = weights.sum(dim=-1, keepdim=True)
        greedy = upload([rule.temperature == 0 for rule in rules], device, torch.bool)
        drawn = torch.where(
            greedy, largest.indices.squeeze(1), invert(weights, [rule.uniform for rule in rules])
        )
        # The largest of a row is NaN when any of it is, and infinite when the computation overflowed.
        self.tokens = torch.where(torch.isfinite(largest.values).squeeze(1), drawn, -1)
        self._wanting = [n for n, rule in enumerate(rules) if rule.top is not None]
        parts = [self.tokens]
        for n in self._wanting:
            scaled = (logits[n] - largest.values[n]) / heat[n]
            parts += _logprobs(drawn[n : n + 1], scaled, weights[n], total[n], rules[n].top or 0)
        self._parts = Download(*parts)

    def read(self) -> list[Drawn | None]:
        tokens, *parts = self._parts.wait()
        found = [Drawn(token) if token >= 0 else None for token in tokens.tolist()]
        for n, own, indices, values in zip(self._wanting, *(parts[k::3] for k in range(3)), strict=True):
            if (one := found[n]) is not None:
                pairs = zip(indices.tolist(), values.tolist(), strict=True)
                found[n] = Drawn(one.token, own.item(), tuple(pair for pair in pairs if pair[1] > -math.inf))
        return found


_BITS = (
    torch.arange(256).unsqueeze(1) >> torch.arange(8)
) & 1 == 1  # [byte, bit]: a look-up beats shifts by far


def forbid_reference(logits: torch.Tensor, allowed: torch.Tensor) -> None:
    bits = _BITS[allowed.view(torch.uint8).long()].flatten()[: len(logits)]
    logits.masked_fill_(~send(bits, logits.device), -math.inf)


def invert(p: torch.Tensor, uniforms: list[float]) -> torch.Tensor:
    """An index from each row of the unnormalized `p` [rows, n], by inverting its cumulative sum."""
    cumulative = p.cumsum(dim=-1)
    uniform = upload(uniforms, p.device, torch.float32).unsqueeze(1)
    index = torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True)
    # Rounding can put the target on the total itself, past every index; and a parallel sum, associated otherwise from one
    # index to the next, on one that has no weight. Then the likeliest will do.
    weight = p.gather(1, index.clamp(max=p.shape[-1] - 1))
    fits = (index < p.shape[-1]) & (weight > 0)
    return torch.where(fits, index, p.argmax(dim=-1, keepdim=True)).squeeze(1)


def _kept(logits: torch.Tensor, weights: torch.Tensor, rules: Sequence[Rule]) -> torch.Tensor:
    """Which tokens the cuts leave, bool [rows, vocabulary]."""
    threshold, ties = _last_kept(logits, weights, rules, CANDIDATES)
    equal = logits == threshold
    min_p = upload([r.min_p if r.cuts else 0.0 for r in rules], logits.device, torch.float32).unsqueeze(1)
    return ((logits > threshold) | (equal & (equal.cumsum(dim=-1) <= ties))) & (weights >= min_p)


def _last_kept(
    logits: torch.Tensor, weights: torch.Tensor, rules: Sequence[Rule], candidates: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The least logit that top-k and top-p leave, and how many of those equal to it, each [rows, 1]; looked for among
    the best `candidates`, and where they might not hold it, among all."""
    vocabulary = logits.shape[-1]
    candidates = min(candidates, vocabulary)
    cuts = [rule if rule.cuts else Rule(1.0) for rule in rules]
    top_k = upload([rule.top_k or vocabulary for rule in cuts], logits.device).unsqueeze(1)
    top_p = upload([rule.top_p for rule in cuts], logits.device, torch.float32).unsqueeze(1)
    best = logits.topk(candidates, dim=-1)
    p = weights.gather(1, best.indices)
    keep = torch.arange(candidates, device=logits.device) < top_k
    p = p * keep
    mass = torch.where(top_k <= candidates, p.sum(dim=-1, keepdim=True), weights.sum(dim=-1, keepdim=True))
    keep &= (p.cumsum(dim=-1) - p < top_p * mass) | (top_p >= 1)
    keep[:, 0] = True
    threshold = best.values.gather(1, keep.sum(dim=-1, keepdim=True) - 1)
    ties = (keep & (best.values == threshold)).sum(dim=-1, keepdim=True)
    if candidates < vocabulary:
        # The last candidate survived every cut, so a token that is not among them might as well.
        unsure = [n for n, rule in enumerate(cuts) if rule.top_p < 1]
        reached = dict(zip(unsure, keep[unsure, -1].tolist(), strict=True)) if unsure else {}
        again = [n for n, rule in enumerate(cuts) if rule.top_k > candidates or reached.get(n, False)]
        for n, rule in enumerate(cuts):
            if rule.top_k == 0 and rule.top_p >= 1:
                threshold[n], ties[n] = -math.inf, vocabulary
        if again:
            some = [rules[n] for n in again]
            threshold[again], ties[again] = _last_kept(logits[again], weights[again], some, vocabulary)
    return threshold, ties


def _logprobs(
    token: torch.Tensor, logits: torch.Tensor, weights: torch.Tensor, total: torch.Tensor, top: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of `token` [1], then the likeliest tokens and theirs.

    `logits`: of one row, divided by its temperature, the largest 0. `weights`: 0 for those that are cut off.
    """
    logprobs = torch.where(weights > 0, logits - total.log(), -math.inf)
    best = logprobs.topk(min(top, len(logprobs)))
    return logprobs.gather(0, token), best.indices, best.values
