"""From logits to token ids, each row by its own rules.

A row's randomness is a function of its seed and of how many tokens it has produced, so a seeded request
draws the same numbers whatever shares its batch, and again after a preemption. (Its logits may still differ
in the last bits between batches of different sizes.)

Order of operations, as in the field's other servers: grammar, penalties and bias, temperature, top-k, top-p over what
top-k left, min-p. Log-probabilities are of what this leaves; a greedy row's are of temperature 1 without cuts.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from gpt_oss_triton.engine.grammar import Matcher
from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.kernels.operations import Vocabulary
from gpt_oss_triton.kernels.sampling import CANDIDATES, Rule, draw, forbid
from gpt_oss_triton.kernels.transfer import Download, upload
from gpt_oss_triton.wire import GenerationOptions, TokenLogprobs

GREEDY_BELOW = 1e-5  # a temperature so low leaves nothing to draw, and dividing by it overflows


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token, with its log-probabilities where the request asked for them."""

    token: int
    logprobs: TokenLogprobs | None = None


# Of one row. None: its logits are no numbers; an error: its sequence cannot go on.
RowOutcome = Sampled | ServiceError | None
# Of one sequence's step; the tokens are one or more.
Outcome = list[Sampled] | ServiceError | None


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
        matcher: Matcher | None = None,
    ) -> None:
        self.options = options
        self.greedy = options.temperature < GREEDY_BELOW
        self.matcher = matcher  # of the request's grammar
        self._seed = secrets.randbits(64) if options.seed is None else options.seed
        self._prompt_token_ids = prompt_token_ids
        self._vocabulary = vocabulary
        self._device = device
        self._prepared = False
        self._counts: torch.Tensor | None = None  # of each output token
        self._seen: torch.Tensor | None = None  # which tokens occurred, the prompt's included

    @property
    def penalizes(self) -> bool:
        """By the tokens that came."""
        o = self.options
        return (o.frequency_penalty, o.presence_penalty, o.repetition_penalty) != (0, 0, 1)

    @property
    def remembers(self) -> bool:
        """A token's distribution depends on the tokens before it, and not by the logits alone."""
        return self.penalizes or self.matcher is not None

    @property
    def waits(self) -> bool:
        """A draw cannot be launched before the last one is known, or makes the host wait for the device."""
        return self.remembers or (
            not self.greedy and (self.options.top_p < 1 or self.options.top_k > CANDIDATES)
        )

    @property
    def adjusts(self) -> bool:
        return self.remembers or bool(self.options.logit_bias)

    @property
    def plain(self) -> bool:
        """The likeliest token is all that is asked for: no logits are needed."""
        return self.greedy and not self.adjusts and self.options.logprobs is None

    def observe(self, token: int) -> None:
        """A token was sampled, and another one will be."""
        if self._counts is not None:
            self._counts[token] += 1
        if self._seen is not None:
            self._seen[token] = True
        if self.matcher is not None:
            self.matcher.advance(token)

    def adjust(self, logits: torch.Tensor, ahead: int = 0) -> None:
        """Apply grammar, penalties and bias in place to float32 `logits` [vocabulary].

        Args:
            ahead: as of `Place`.

        Raises:
            InvalidRequest: see `Matcher.allowed`.
        """
        o = self.options
        if not self._prepared:
            self._prepare()
        if self.matcher is not None:
            forbid(logits, self.matcher.allowed(ahead))
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
        if o.frequency_penalty != 0 or o.presence_penalty != 0:
            self._counts = torch.zeros(self._vocabulary, device=device)
        if o.repetition_penalty != 1:
            self._seen = torch.zeros(self._vocabulary, dtype=torch.bool, device=device)
            self._seen[upload(self._prompt_token_ids, device)] = True
        self._bias_ids = upload(list(o.logit_bias), device)
        self._bias = upload(list(o.logit_bias.values()), device, torch.float32)
        self._prepared = True  # what ran out of memory before may fit when it is repeated

    def rule(self, number: int) -> Rule:
        """How the output's token `number`, from 0, is drawn."""
        o = self.options
        return Rule(
            temperature=0.0 if self.greedy else o.temperature,
            uniform=0.0 if self.greedy else self.uniform(number),
            top_k=o.top_k,
            top_p=o.top_p,
            min_p=o.min_p,
            top=o.logprobs,
        )

    def uniform(self, number: int) -> float:
        """In [0, 1): what draws the output's token `number`."""
        key = self._seed.to_bytes(8, "little") + number.to_bytes(8, "little")
        return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") / 2**64


class Place(NamedTuple):
    """A row of logits.

    Attributes:
        row: whose it is.
        number: which of the output's tokens it is for, from 0.
        ahead: how many drafted tokens lie between that and the last known one.
    """

    row: RowSampling
    number: int
    ahead: int = 0


class SampledRows:
    """One token for each row of logits, perhaps still being computed.

    Attributes:
        tokens: int64 [rows] on the logits' device, -1 for rows without one.
    """

    def __init__(self, logits: torch.Tensor, places: Sequence[Place]) -> None:
        """`logits`: [rows, vocabulary], which may be overwritten."""
        logits = logits.float()
        self._places = places
        self._errors: dict[int, ServiceError] = {}
        for n, (row, _, ahead) in enumerate(places):
            if row.adjusts:
                try:
                    row.adjust(logits[n], ahead)
                except ServiceError as error:
                    self._errors[n] = error
        self._drawn = draw(logits, [place.row.rule(place.number) for place in places])

    @property
    def tokens(self) -> torch.Tensor:
        return self._drawn.tokens

    def outcomes(self) -> list[RowOutcome]:
        """Wait for them."""
        outcomes: list[RowOutcome] = []
        for n, (found, place) in enumerate(zip(self._drawn.read(), self._places, strict=True)):
            if found is None or n in self._errors:
                outcomes.append(self._errors.get(n))
            elif place.row.options.logprobs is None:
                outcomes.append(Sampled(found.token))
            else:
                outcomes.append(Sampled(found.token, TokenLogprobs(found.logprob, list(found.top))))
        return outcomes


class LikeliestRows:
    """As `SampledRows`, where nobody needs logits."""

    def __init__(self, tokens: torch.Tensor) -> None:
        self.tokens = tokens
        self._arriving = Download(tokens)

    def outcomes(self) -> list[RowOutcome]:
        (tokens,) = self._arriving.wait()
        return [Sampled(token) if token >= 0 else None for token in tokens.tolist()]


class MixedRows:
    """As `SampledRows`, where some rows need their logits and others do not."""

    def __init__(self, parts: Sequence[tuple[list[int], SampledRows | LikeliestRows]]) -> None:
        """`parts`: which rows, and what is sampled for them."""
        self._parts = parts

    @property
    def tokens(self) -> torch.Tensor:
        order = [n for rows, _ in self._parts for n in rows]
        tokens = torch.cat([sampled.tokens for _, sampled in self._parts])
        return torch.empty_like(tokens).index_copy_(0, upload(order, tokens.device), tokens)

    def outcomes(self) -> list[RowOutcome]:
        found = {n: one for rows, part in self._parts for n, one in zip(rows, part.outcomes(), strict=True)}
        return [found[n] for n in range(len(found))]


Rows = SampledRows | LikeliestRows | MixedRows


def sample(hidden: torch.Tensor, places: Sequence[Place], vocabulary: Vocabulary) -> Rows:
    """Sample from the logits that `vocabulary` makes of `hidden` [rows, hidden]: made only where they are needed."""
    plain = [n for n, place in enumerate(places) if place.row.plain]
    others = [n for n, place in enumerate(places) if not place.row.plain]
    if not places:
        return LikeliestRows(torch.empty(0, dtype=torch.int64, device=hidden.device))
    if not others:
        return LikeliestRows(vocabulary.likeliest(hidden))
    if not plain:
        return SampledRows(vocabulary.logits(hidden), places)
    likeliest = vocabulary.likeliest(hidden[upload(plain, hidden.device)])
    logits = vocabulary.logits(hidden[upload(others, hidden.device)])
    return MixedRows(
        [(plain, LikeliestRows(likeliest)), (others, SampledRows(logits, [places[n] for n in others]))]
    )
