"""Words that fill the places in the corpus's sentences, from `words.toml`."""

from __future__ import annotations

import tomllib
from importlib import resources

from gpt_oss_triton.harmony.tokens import encode_text


def is_one_token(word: str) -> bool:
    """With a blank before it and without: `Turin` is `Tur` and `in` in JSON, which a tiny model cannot know."""
    return len(encode_text(f" {word}")) == len(encode_text(word)) == 1


def is_one_token_in_names(word: str) -> bool:
    """Also in `get_word`, `getWord` and `functions.word_get`."""
    return all(len(encode_text(form)) == 1 for form in (f"_{word}", f".{word}", word.capitalize()))


_LISTS: dict[str, str] = tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text("utf-8"))


def _words(name: str) -> tuple[str, ...]:
    return tuple(word for word in _LISTS[name].split() if is_one_token(word))


def _parts_of_names(name: str) -> tuple[str, ...]:
    return tuple(filter(is_one_token_in_names, _words(name)))


NAMES = _words("names")
CITIES = _words("cities")
NOUNS = _words("nouns")
LIKES = _words("likes")
VERBS = _parts_of_names("verbs")
THINGS = _parts_of_names("things")
FIELDS = _parts_of_names("fields")
ADJECTIVES = _words("adjectives")
COUNTED = _words("counted")
FILLING = frozenset(
    word.lower()
    for words in (NAMES, CITIES, NOUNS, LIKES, VERBS, THINGS, FIELDS, ADJECTIVES, COUNTED)
    for word in words
)
