"""Words that the model has to know, as it says or understands them without having read what they are."""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpt_oss_triton.demo.corpus.facts import TABLES
from gpt_oss_triton.demo.corpus.lists import GROUPS
from gpt_oss_triton.demo.corpus.phrasing import PHRASES

_PLACE = re.compile(r"\{.*?\}")
# Words of the corpus's lists that the server's own prompts have, too.
_OF_PROMPTS = "channel comment high large language low message model number open type user"


def _texts() -> Iterator[str]:
    yield _OF_PROMPTS
    for table in (*TABLES, GROUPS):
        yield from (*table, *table.values())
    for phrases in PHRASES.values():
        yield from (_PLACE.sub(" ", text) for text in (*phrases.usual, *phrases.patterns))


BY_HEART = frozenset(word for text in _texts() for word in re.findall("[a-z]+", text.lower()))
