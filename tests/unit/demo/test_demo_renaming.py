"""Words that look otherwise for one step."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

import pytest
import torch

from gpt_oss_triton.demo.corpus import Sample
from gpt_oss_triton.demo.corpus.by_heart import BY_HEART
from gpt_oss_triton.demo.corpus.draw import part
from gpt_oss_triton.demo.corpus.words import FILLING, VERBS
from gpt_oss_triton.demo.renaming import Renaming
from gpt_oss_triton.demo.spelling import NOTHING, WIDTH, features_of_text, word_in
from gpt_oss_triton.demo.training import Training, samples_of_step
from gpt_oss_triton.demo.vocabulary import Guise, Vocabulary
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.harmony.tokens import encode_text, token_bytes
from gpt_oss_triton.wire import Message, PromptRequest, ReasoningEffort
from tests.unit.demo.conftest import OWN, SMALL
from tests.unit.demo.test_demo_training import CPU, PLAN

WORDS = " sensor shelf token curtain pigeon carpet garlic basket hammer pillow"


def one(text: str) -> int:
    (token,) = encode_text(text)
    return token


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    torch.manual_seed(1)
    return Vocabulary(64, [*OWN, one(" thumb")])


@pytest.fixture(scope="module")
def renaming(vocabulary: Vocabulary) -> Renaming:
    return Renaming(vocabulary)


def sample(read: str, said: str = "") -> Sample:
    ids = encode_text(read) + encode_text(said)
    return Sample(ids, [place >= len(encode_text(read)) for place in range(len(ids))])


def guise_of(vocabulary: Vocabulary, renaming: Renaming, *samples: Sample) -> Guise:
    with renaming.of(samples):
        return Guise(*(table.clone() for table in vocabulary.seen))


def changed(vocabulary: Vocabulary, guise: Guise) -> list[int]:
    return (guise.codes != vocabulary.codes).any(1).nonzero().flatten().tolist()


def word_of(token: int) -> str:
    return word_in(token_bytes(token)).lower().decode()


def row(text: str) -> list[int]:
    found = features_of_text(text.encode())
    return found + [NOTHING] * (WIDTH - len(found))


def test_most_words_are_seen_as_others_in_all_their_forms(vocabulary: Vocabulary, renaming: Renaming) -> None:
    guise = guise_of(vocabulary, renaming, sample(WORDS))
    renamed = [word for word in WORDS.split() if one(f" {word}") in changed(vocabulary, guise)]
    assert len(renamed) > 4
    for word in renamed:
        other = word_of(int(guise.seen_as[one(f" {word}")]))
        assert other != word
        forms = (
            (f" {word}", f" {other}"),
            (word, other),
            (f"_{word}", f"_{other}"),
            (word.capitalize(), other.capitalize()),
        )
        for form, expected in forms:
            if len(tokens := encode_text(form)) == 1:
                assert guise.features[tokens[0]].tolist() == row(expected)
                seen_as = int(guise.seen_as[tokens[0]])
                assert word_of(seen_as) == other
                assert torch.equal(guise.codes[tokens[0]], vocabulary.codes[seen_as])
                if len(encode_text(expected)) == 1:
                    assert seen_as == one(expected)


def test_the_model_reads_and_writes_them_so(vocabulary: Vocabulary, renaming: Renaming) -> None:
    vocabulary.eval()
    tokens = torch.tensor(encode_text(WORDS))
    plain = vocabulary.read(tokens), vocabulary.written(tokens)
    with renaming.of([sample(WORDS)]):
        seen_as = vocabulary.seen.seen_as[tokens]
        now = vocabulary.read(tokens), vocabulary.written(tokens)
    for before, during, expected in zip(
        plain, now, (vocabulary.read(seen_as), vocabulary.written(seen_as)), strict=True
    ):
        assert not torch.allclose(before, during)
        # Some stand for a form that the other word has no token for.
        same = torch.tensor([token_bytes(t) == f" {word_of(t)}".encode() for t in seen_as.tolist()])
        assert same.sum() > 4
        torch.testing.assert_close(during[same], expected[same])


def test_words_change_places_so_that_no_two_look_alike(vocabulary: Vocabulary, renaming: Renaming) -> None:
    guise = guise_of(vocabulary, renaming, sample(WORDS))
    tokens = changed(vocabulary, guise)
    assert {bytes(code) for code in vocabulary.codes[tokens].numpy()} == {
        bytes(code) for code in guise.codes[tokens].numpy()
    }
    looks = torch.cat((guise.features[tokens], guise.codes[tokens]), dim=1)
    assert len(torch.unique(looks, dim=0)) == len(tokens)
    for token in tokens:
        assert word_of(int(guise.seen_as[guise.seen_as[token]])) == word_of(token)


def test_what_is_counted_beside_a_target_looks_like_it(vocabulary: Vocabulary, renaming: Renaming) -> None:
    target = one(" sensor")
    for _ in range(20):
        with renaming.of([sample(" sensor")]):
            seen_as = int(vocabulary.seen.seen_as[target])
            beside = vocabulary._alike(torch.tensor([target]))
            shown = [word_of(int(token)) for token in vocabulary.seen.seen_as[beside]]
        other = word_of(seen_as)
        assert all(word[:3] == other[:3] or word[1:4] == other[1:4] for word in shown), (other, shown)


def drawn_often(vocabulary: Vocabulary, renaming: Renaming, samples: Sequence[Sample]) -> set[int]:
    """The tokens that look otherwise at least once in twenty steps."""
    found: set[int] = set()
    for _ in range(20):
        with renaming.of(samples):
            found.update(changed(vocabulary, vocabulary.seen))
    return found


def test_what_has_to_be_known_stays(vocabulary: Vocabulary, renaming: Renaming) -> None:
    samples = [sample(WORDS, " walnut carpet"), sample(" Iceland please seven, fifth thumb 7")]
    often = drawn_often(vocabulary, renaming, samples)
    assert {one(" carpet"), one(" garlic"), one(" token"), one("_token")} <= often, "read before it is said"
    said_first, fact, phrase, number, own = " walnut", " Iceland", " please", " fifth", " thumb"
    for text in (said_first, fact, phrase, number, own, "thumb", "7", ","):
        assert one(text) not in often, text
    assert {"fifth", "five", "one", "iceland", "please"} <= BY_HEART


def test_what_the_server_writes_into_each_prompt_stays() -> None:
    efforts: tuple[ReasoningEffort, ...] = ("low", "medium", "high")
    for effort in efforts:
        prompt = render(PromptRequest([Message("user", "?")], reasoning_effort=effort), date="2026-01-02")
        words = {word_of(token) for token in prompt if token < 199_998}
        assert words & FILLING <= BY_HEART


def test_no_word_that_is_held_out_is_shown(renaming: Renaming) -> None:
    held = set(part(VERBS, "held"))
    assert held
    assert held.isdisjoint(renaming._partners)
    assert len(renaming._partners) > 60_000


def test_afterwards_all_is_as_it_was(vocabulary: Vocabulary, renaming: Renaming) -> None:
    with pytest.raises(ZeroDivisionError), renaming.of([sample(WORDS)]):
        raise ZeroDivisionError
    assert all(now is plain for now, plain in zip(vocabulary.seen, vocabulary.plain, strict=True))
    with renaming.of([sample("")]):
        for now, plain in zip(vocabulary.seen, vocabulary.plain, strict=True):
            assert torch.equal(now, plain)


def test_a_training_renames_in_each_step_and_so_does_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    loss = Vocabulary.loss

    def noted(self: Vocabulary, *arguments: torch.Tensor) -> torch.Tensor:
        seen.append(self.seen.codes.clone())
        return loss(self, *arguments)

    monkeypatch.setattr(Vocabulary, "loss", noted)
    training = Training(SMALL, PLAN, OWN, CPU)
    samples = samples_of_step(1, 0, 4)
    training.step(samples)
    training.step(samples)
    copied = pickle.loads(pickle.dumps(training))  # noqa: S301  # our own
    assert "_renaming" not in vars(copied), "it would share its tables with the first one"
    copied.step(samples)
    plain = training.model.vocabulary.codes
    steps = [seen[place] for place in (0, len(seen) // 3, 2 * len(seen) // 3)]
    for number, codes in enumerate(steps):
        assert not torch.equal(codes, plain)
        assert not any(torch.equal(codes, other) for other in steps[:number])
