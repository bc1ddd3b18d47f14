"""The last line of defence: secrets that the server knows are masked in whatever it writes about itself.

Nothing is meant to log a secret. A library's error message, a URL with a password in it or a mistake of
ours may all the same.
"""

from __future__ import annotations

import json
import re

MASK = "[hidden]"
_SHORTEST = 4  # characters; masking shorter ones would only blot the text
_MOST = 1000


class Redaction:
    """The secrets that must not appear."""

    def __init__(self) -> None:
        self._secrets: frozenset[str] = frozenset()  # replaced as a whole: the log's thread reads it
        self._compiled: tuple[frozenset[str], re.Pattern[str]] | None = None  # of which secrets

    def hide(self, secret: str) -> None:
        """Mask a secret from now on, also where it is written as a JSON string."""
        if len(secret) < _SHORTEST or len(self._secrets) >= _MOST:
            return
        as_json = (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
        self._secrets |= {secret, *as_json}

    def redact(self, text: str) -> str:
        """The text with every secret masked."""
        secrets, compiled = self._secrets, self._compiled
        if not secrets:
            return text
        if compiled is None or compiled[0] is not secrets:
            longest_first = sorted(secrets, key=len, reverse=True)  # one may be a part of another
            compiled = self._compiled = (secrets, re.compile("|".join(map(re.escape, longest_first))))
        return compiled[1].sub(MASK, text)


_redaction = Redaction()
hide = _redaction.hide
redact = _redaction.redact
