"""Words that look otherwise for one step of the training.

What is to be done with a word that a user brings has to be learned of words in general; of the corpus's few thousand it is
learned by heart. So in each step most words get the letters and the code of one of the vocabulary's 65,000, and that word
theirs, in all their tokens: ` cancel`, `_cancel` and `Cancel` go on being one word.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.demo.corpus.by_heart import BY_HEART
from gpt_oss_triton.demo.corpus.vocables import held_out
from gpt_oss_triton.demo.spelling import NOTHING, WIDTH, can_be_written, features_of_text, word_in
from gpt_oss_triton.demo.vocabulary import Guise, Vocabulary
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL, token_bytes

# Share of the words that may be. The others are learned as they are: so are the rarer words of phrases that nobody listed.
_RENAMED = 0.8


class Renaming:
    """For one process of a training: each draws its own."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._guise = Guise(*(table.clone() for table in vocabulary.plain))
        self._tokens = _tokens_of_words(set(vocabulary.own.tolist()))
        self._partners = sorted(self._tokens.keys() - held_out())  # which no training may show
        self._word = {token: word for word, tokens in self._tokens.items() for token in tokens}

    @contextmanager
    def of(self, samples: Sequence[Sample]) -> Iterator[None]:
        """Most words of these samples change places with words that are in none of them."""
        met = {self._word[token] for sample in samples for token in sample.ids if token in self._word}
        kept = BY_HEART.union(*(self._said_unread(sample) for sample in samples))
        words = sorted(met - kept)
        renamed = [
            word
            for word, drawn in zip(words, torch.rand(len(words)).tolist(), strict=True)
            if drawn < _RENAMED
        ]
        changed = self._exchange(renamed, self._others(met | kept, len(renamed)))
        try:
            with self._vocabulary.seen_in(self._guise):
                yield
        finally:
            for table, plain in zip(self._guise, self._vocabulary.plain, strict=True):
                table[changed] = plain[changed]

    def _said_unread(self, sample: Sample) -> set[str]:
        """Words that the model has to say before it has read them."""
        read: set[str] = set()
        said: set[str] = set()
        for token, learned in zip(sample.ids, sample.learned, strict=True):
            word = self._word.get(token)
            if word is not None and word not in read:
                (said if learned else read).add(word)
        return said

    def _others(self, taken: set[str], count: int) -> list[str]:
        """Different words, none of those that are taken."""
        places = torch.randperm(len(self._partners))[: count + len(taken)].tolist()
        return [self._partners[place] for place in places if self._partners[place] not in taken][:count]

    def _exchange(self, words: Sequence[str], others: Sequence[str]) -> torch.Tensor:
        """The tokens that are seen otherwise from now on."""
        changed: list[int] = []
        features: list[list[int]] = []
        seen_as: list[int] = []
        for old, new in zip((*words, *others), (*others, *words), strict=True):
            forms = {_in_form_of(token, new): token for token in self._tokens[new]}
            for token in self._tokens[old]:
                text = _in_form_of(token, new)
                found = features_of_text(text)
                changed.append(token)
                features.append(found + [NOTHING] * (WIDTH - len(found)))
                seen_as.append(forms.get(text, self._tokens[new][0]))
        device = self._guise.features.device
        where, instead = (
            torch.tensor(tokens, dtype=torch.int64, device=device) for tokens in (changed, seen_as)
        )
        self._guise.features[where] = torch.tensor(features, dtype=torch.int64, device=device).view(-1, WIDTH)
        self._guise.codes[where] = self._vocabulary.codes[instead]
        self._guise.seen_as[where] = instead
        return where


def _tokens_of_words(own: set[int]) -> dict[str, list[int]]:
    """Words of ASCII letters and their tokens, of those words none of whose tokens is `own` or capitalized in the middle."""
    found: dict[str, list[int]] = defaultdict(list)
    others: set[str] = set()
    for token in range(FIRST_SPECIAL):
        if not can_be_written(token):
            continue
        word = word_in(token_bytes(token))
        if word.isalpha() and word.isascii():
            found[word.lower().decode()].append(token)
            if token in own or not (word.islower() or word.istitle() or word.isupper()):
                others.add(word.lower().decode())
    return {word: tokens for word, tokens in found.items() if word not in others}


def _in_form_of(token: int, word: str) -> bytes:
    """The word with the token's sign and capitals."""
    text, new = token_bytes(token), word.encode()
    old = word_in(text)
    if old.istitle():
        new = new.capitalize()
    elif old.isupper():
        new = new.upper()
    return text[: len(text) - len(old)] + new
