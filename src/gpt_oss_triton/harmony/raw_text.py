"""The model's tokens as one plain text, for completions: no channels, and stop strings match anywhere.

Control tokens are left out, unless they are asked for; then they are written out as `<|name|>` and stop
strings see them as well.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence

from gpt_oss_triton.harmony.stop_strings import StopStrings
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL, decode, token_bytes

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")


class RawText:
    """How the tokens are cut into calls does not change the text.

    Args:
        stop: stop strings, each at least one character.
        show_control: write control tokens out.

    Attributes:
        written: characters of the text so far, those that are held back included.
    """

    def __init__(self, stop: Sequence[str] = (), *, show_control: bool = False) -> None:
        self.written = 0
        self._show_control = show_control
        self._stop_strings = StopStrings(stop) if stop else None
        self._utf8 = _Utf8Decoder("replace")

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the text; from then on there is no more."""
        return None if self._stop_strings is None else self._stop_strings.found

    def feed(self, token_ids: Iterable[int]) -> str:
        """The text that these tokens add, but for what may yet become a stop string or a character."""
        if self.stopped is not None:
            return ""
        return self._show("".join(map(self._decode, token_ids)))

    def finish(self) -> str:
        """What was held back, when no more tokens come."""
        if self.stopped is not None:
            return ""
        text = self._show(self._utf8.decode(b"", True))
        if self._stop_strings is not None and self._stop_strings.found is None:
            text += self._stop_strings.flush()
        return text

    def _show(self, text: str) -> str:
        self.written += len(text)
        return text if self._stop_strings is None else self._stop_strings.feed(text)

    def _decode(self, token: int) -> str:
        if token < FIRST_SPECIAL:
            return self._utf8.decode(token_bytes(token))
        if not self._show_control:
            return ""
        broken = self._utf8.decode(b"", True)  # a control token ends a character that was begun
        self._utf8.reset()
        return broken + decode([token])
