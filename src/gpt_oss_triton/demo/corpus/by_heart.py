"""Words that the model has to know: what they mean, or that it says them without having read them.

Here are those of facts and phrases. Words of the thoughts and answers that Python makes are said unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gpt_oss_triton.demo.corpus.facts import TABLES
from gpt_oss_triton.demo.corpus.lists import GROUPS, NUMBERS, ORDINALS
from gpt_oss_triton.demo.corpus.phrasing import PHRASES, words_of
from gpt_oss_triton.demo.corpus.tables import TELLING_NAMES

# Words of the corpus's lists that have a meaning where the server writes them into each prompt: `Reasoning: low`, `type`.
_OF_PROMPTS = "channel comment high large language low message model number open type user"


def _texts() -> Iterator[str]:
    yield _OF_PROMPTS
    for names in TELLING_NAMES:
        yield from names
    yield from (*NUMBERS, *ORDINALS)
    for table in (*TABLES, GROUPS):
        yield from (*table, *table.values())


BY_HEART = frozenset(word for text in _texts() for word in re.findall("[a-z]+", text.lower())).union(
    *map(words_of, PHRASES.values())
)
