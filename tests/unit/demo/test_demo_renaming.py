"""Words that look otherwise for one step."""

from __future__ import annotations

import pytest
import torch

from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.demo.renaming import Renaming
from gpt_oss_triton.demo.spelling import features_of_text
from gpt_oss_triton.demo.vocabulary import Looks, Vocabulary
from gpt_oss_triton.harmony.tokens import encode_text, token_bytes
from tests.unit.demo.conftest import OWN

WORDS = " sensor shelf onion curtain pigeon carpet garlic basket hammer pillow"


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    torch.manual_seed(1)
    return Vocabulary(64, OWN)


def sample(read: str, said: str = "") -> Sample:
    ids = encode_text(read) + encode_text(said)
    return Sample(ids, [place >= len(encode_text(read)) for place in range(len(ids))])


def disguised(vocabulary: Vocabulary, *samples: Sample) -> tuple[Looks, list[int]]:
    """What the tokens look like during the step, and which of them look otherwise."""
    with Renaming(vocabulary).of(samples):
        assert vocabulary.disguise is not None
        looks = Looks(*(table.clone() for table in vocabulary.disguise))
        read = vocabulary.read(torch.tensor(samples[0].ids))
    assert not torch.equal(read, vocabulary.read(torch.tensor(samples[0].ids)))
    return looks, (looks.codes != vocabulary.codes).any(1).nonzero().flatten().tolist()


def one(text: str) -> int:
    (token,) = encode_text(text)
    return token


def text_of(token: int) -> bytes:
    return token_bytes(token) or b""


def test_most_words_are_seen_as_others_in_all_their_forms(vocabulary: Vocabulary) -> None:
    looks, changed = disguised(vocabulary, sample(WORDS))
    renamed = [word for word in WORDS.split() if one(f" {word}") in changed]
    assert len(renamed) > 4
    for word in renamed:
        seen = int(looks.spelled[one(f" {word}")])
        other = text_of(seen).decode().strip(" _.(-").lower()
        assert other != word
        for form in (" {}", "{}", "_{}"):
            tokens = encode_text(form.format(word))
            if len(tokens) > 1:
                continue
            expected = features_of_text(form.format(other).encode())
            assert looks.features[tokens[0]].tolist()[: len(expected)] == expected, (word, other, form)
            assert torch.equal(looks.codes[tokens[0]], vocabulary.codes[seen])
            assert int(looks.spelled[tokens[0]]) == seen
        capital = one(word.capitalize()) if len(encode_text(word.capitalize())) == 1 else None
        if capital is not None:
            expected = features_of_text(other.capitalize().encode())
            assert looks.features[capital].tolist()[: len(expected)] == expected


def test_words_change_places_so_that_no_two_look_alike(vocabulary: Vocabulary) -> None:
    looks, changed = disguised(vocabulary, sample(WORDS))
    before, after = (
        {bytes(row) for row in codes[changed].numpy()} for codes in (vocabulary.codes, looks.codes)
    )
    assert before == after
    for token in changed:
        back = int(looks.spelled[looks.spelled[token]])
        assert torch.equal(vocabulary.codes[back], vocabulary.codes[token])


def test_what_has_to_be_known_stays(vocabulary: Vocabulary) -> None:
    # Said before it is read; of the table of facts; of the phrases; no word; a form of a word with a row of its own.
    _, changed = disguised(vocabulary, sample(WORDS, " walnut carpet"), sample(" Iceland please 7, help"))
    for text in (" walnut", " Iceland", " please", "7", ",", " help", "_help"):
        assert one(text) not in changed, text
    assert set(changed).isdisjoint(OWN)


def test_afterwards_all_is_as_it_was(vocabulary: Vocabulary) -> None:
    renaming = Renaming(vocabulary)
    with pytest.raises(ZeroDivisionError), renaming.of([sample(WORDS)]):
        raise ZeroDivisionError
    assert vocabulary.disguise is None
    with renaming.of([sample("")]):
        assert vocabulary.disguise is not None
        for now, plain in zip(vocabulary.disguise, vocabulary.looks, strict=True):
            assert torch.equal(now, plain)


def test_each_step_renames_otherwise(vocabulary: Vocabulary) -> None:
    first, _ = disguised(vocabulary, sample(WORDS))
    second, _ = disguised(vocabulary, sample(WORDS))
    assert not torch.equal(first.codes, second.codes)
