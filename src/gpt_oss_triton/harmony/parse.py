"""What the model produced after `<|start|>assistant`, token by token, as text in channels.

A model may write anything, so this is a total state machine: it never raises, no control marker ever
becomes text, and no text is lost but that of headers. It works in constant time per token, and how the
tokens are cut into calls changes nothing but how the text is cut into deltas.

It is in one of two states. In a *body*, text belongs to a message. In a *header*, text names the message
to come: a role, then optionally `<|channel|>` and a channel, with ` to=` in either and a content type at
the end. Well-formed output needs two rules: `<|message|>` turns a header into a body, and `<|end|>`,
`<|call|>` or `<|return|>` ends the body. The rest is recovery:

=====================================================  ====================================================
malformed                                              becomes
=====================================================  ====================================================
text where a header should begin: at the very start,   a `final` message, streamed from its first token.
after `<|start|>assistant`, or after a message ended   (Text is held only while it may still become
without `<|start|>`                                     `assistant`, except at the start, or ` to=`.)
a header without a channel                             `final`; with a recipient `commentary`
an unknown or empty channel name                       `analysis`: kept, and not shown as the answer
a role other than assistant                            `analysis` without a recipient
words left over before `<|message|>`                   dropped with the header
a header without `<|message|>`: over 64 tokens, at     what follows its role, channel name and recipient is
another `<|channel|>`, `<|start|>`, a closing token    text of the channel it names; where it names no known
or the end of the output                               channel, of the body it broke into, else of `final`
`<|start|>` inside a body                              ends the message and begins a header
`<|channel|>` inside a body                            ends the message and begins a header at its channel
`<|message|>` or `<|constrain|>` inside a body         dropped
tokens after `<|call|>`, `<|return|>`, end of text     as after `<|end|>`: a message may start
blanks where a header should begin, and nothing more   dropped
reserved ids, padding, ids outside of the vocabulary   dropped everywhere
UTF-8 that is broken, or cut by the end of a message   U+FFFD
=====================================================  ====================================================
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable

import msgspec

from gpt_oss_triton.harmony.header import NOBODY_SAID, Address, Channel, Header
from gpt_oss_triton.harmony.tokens import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    END_OF_TEXT,
    FIRST_SPECIAL,
    MESSAGE,
    RETURN,
    START,
    token_bytes,
)

_CLOSING = frozenset({END, CALL, RETURN, END_OF_TEXT})


class Body(msgspec.Struct, eq=False):
    """One message of the turn, from its header on; the same object in all deltas of it.

    Attributes:
        closed_by: the control token that ended it; None while it goes on, or when the output ended in it.
    """

    channel: Channel
    recipient: str | None
    closed_by: int | None = None


class Delta(msgspec.Struct, frozen=True):
    """New text of one message. The first one of a message with a recipient is empty, so that it can be announced."""

    body: Body
    text: str


class HarmonyParser:
    """One assistant turn.

    Attributes:
        body: of the message that began last; None before the first one.
        reasoning_tokens: text tokens in the bodies of `analysis` messages so far (without the few that a
            broken header swallowed).
    """

    def __init__(self) -> None:
        self.body: Body | None = None
        self.reasoning_tokens = 0
        self._deltas: list[Delta] = []
        self._header: Header | None = Header(role_read=True)  # None inside a body
        self._otherwise = NOBODY_SAID  # whose text it is that a header swallows
        self._in_analysis = False
        self._bytes = bytearray()  # of the body, not in a delta yet

    @property
    def in_body(self) -> bool:
        """Whether text would now be that of a message."""
        return self._header is None

    def feed(self, token_ids: Iterable[int]) -> list[Delta]:
        """The text that these tokens add, in one delta for each message that got any."""
        for token in token_ids:
            if not 0 <= token < FIRST_SPECIAL:
                self._control(token)
            elif self._header is None:
                self._bytes += token_bytes(token)
                if self._in_analysis:
                    self.reasoning_tokens += 1
            elif not self._header.add(token):
                self._begin_body(*self._header.broken(self._otherwise))
        if self._bytes:
            self._emit()
        return self._take()

    def finish(self) -> list[Delta]:
        """What was held back, when no more tokens come."""
        self._end_message(None)
        return self._take()

    def _control(self, token: int) -> None:
        if token in _CLOSING or token == START:
            self._end_message(token)
            self._otherwise = NOBODY_SAID
            self._header = Header(started=token == START)
        elif token == CHANNEL:
            if self._header is None or self._header.past_role:
                self._end_message(token)
                self._header = Header(role_read=True)
            self._header.begin_channel()
        elif token == MESSAGE and self._header is not None:
            self._begin_body(self._header.complete())
        elif token == CONSTRAIN and self._header is not None:
            self._header.begin_content_type()

    def _begin_body(self, address: Address, text: bytes = b"") -> None:
        self._header = None
        self._otherwise = address
        self._in_analysis = address.channel == "analysis"
        self.body = Body(*address)
        if address.recipient is not None:
            self._deltas.append(Delta(self.body, ""))
        self._bytes += text

    def _end_message(self, token: int | None) -> None:
        if self._header is not None:
            address, text = self._header.broken(self._otherwise)
            if not text.strip():
                return
            self._begin_body(address, text)
        self._emit(final=True)
        if self.body is not None:
            self.body.closed_by = token

    def _emit(self, final: bool = False) -> None:
        text, used = codecs.utf_8_decode(self._bytes, "replace", final)
        del self._bytes[:used]
        if text and self.body is not None:
            self._deltas.append(Delta(self.body, text))

    def _take(self) -> list[Delta]:
        deltas, self._deltas = self._deltas, []
        return deltas
