"""Words that fill the places in the corpus's sentences, from `words.toml`."""

from __future__ import annotations

import tomllib
from importlib import resources

_LISTS: dict[str, str] = tomllib.loads(resources.files(__package__).joinpath("words.toml").read_text("utf-8"))


def _words(name: str) -> tuple[str, ...]:
    return tuple(_LISTS[name].split())


NAMES = _words("names")
CITIES = _words("cities")
NOUNS = _words("nouns")
LIKES = _words("likes")
VERBS = _words("verbs")
THINGS = _words("things")
FIELDS = _words("fields")
ADJECTIVES = _words("adjectives")
