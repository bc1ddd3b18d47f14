"""The header of one message: read as text, then understood, well-formed or not.

`assistant<|channel|>commentary to=functions.get_weather <|constrain|>json` has two sections, the role's and
the channel's. The recipient may stand in either; some models put it behind the content type.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from gpt_oss_triton.harmony.tokens import token_bytes

Channel = Literal["analysis", "commentary", "final"]

_MAX_TOKENS = 64  # a recipient of 64 characters fits with room to spare
_CHANNELS: dict[bytes, Channel] = {b"analysis": "analysis", b"commentary": "commentary", b"final": "final"}
_ASSISTANT = b"assistant"
_OTHER_ROLES = frozenset({b"system", b"developer", b"user", b"tool"})
_READERS = frozenset({"all", "user"})  # recipients that are no tools: such a message is for everyone
_RECIPIENT = re.compile(rb"(?:^|\s)to=(\S+)")
_LEADING_RECIPIENT = re.compile(rb"\s*to=(\S+)")


class Address(NamedTuple):
    """What a header says of its message."""

    channel: Channel
    recipient: str | None


NOBODY_SAID = Address("final", None)


class Header:
    """Of the message to come.

    Args:
        started: `<|start|>` was read, so a role has to come; otherwise it may be missing.
        role_read: the role is known to be the assistant's, and what comes first follows it.
    """

    def __init__(self, *, started: bool = False, role_read: bool = False) -> None:
        self._started = started
        self._role_read = role_read
        self._role = bytearray()
        self._channel: bytearray | None = None
        self._content_type = bytearray()
        self._section = self._role  # the one that text goes to
        self._tokens = 0

    @property
    def past_role(self) -> bool:
        """A channel can begin no more."""
        return self._section is not self._role

    def begin_channel(self) -> None:
        self._channel = self._section = bytearray()

    def begin_content_type(self) -> None:
        self._section = self._content_type

    def add(self, token: int) -> bool:
        """Take a text token; False when this can be no header any more."""
        self._section += token_bytes(token)
        self._tokens += 1
        return self._tokens < _MAX_TOKENS and (self.past_role or self._may_be_role())

    def _may_be_role(self) -> bool:
        text = self._role.lstrip()
        if not self._role_read:
            if not text.startswith(_ASSISTANT):
                return self._started or _ASSISTANT.startswith(text) or b"to=".startswith(text[:3])
            self._role_read = True
            del self._role[: self._role.index(_ASSISTANT) + len(_ASSISTANT)]
            text = self._role.lstrip()
        return b"to=".startswith(text[:3])

    def complete(self) -> Address:
        """As `<|message|>` ended it."""
        if not self._role_read and self._role.strip():
            return Address("analysis", None)
        recipient: str | None = None
        for section in (self._role, self._channel or b"", self._content_type):
            recipient = recipient or _recipient(_RECIPIENT.search(section))
        if self._channel is None:
            return Address("final" if recipient is None else "commentary", recipient)
        name, _ = _split_word(bytes(self._channel))
        return Address(_CHANNELS.get(name, "analysis"), recipient)

    def broken(self, otherwise: Address) -> tuple[Address, bytes]:
        """As it stands without `<|message|>`: the message it was meant for, and the text it swallowed.

        Args:
            otherwise: whose text it is where the header does not say.
        """
        address, text = self._read_broken(otherwise)
        return address, text + bytes(self._content_type)

    def _read_broken(self, otherwise: Address) -> tuple[Address, bytes]:
        role = bytes(self._role)
        if not self._role_read:
            word, after_word = _split_word(role)
            if word in _OTHER_ROLES:
                swallowed = after_word if self._channel is None else bytes(self._channel)
                return Address("analysis", None), swallowed
        recipient, text = _split_recipient(role) if self._role_read else (None, role)
        if self._channel is None:
            return (otherwise if recipient is None else Address("commentary", recipient)), text
        name, after_name = _split_word(bytes(self._channel))
        if name not in _CHANNELS:
            return otherwise, bytes(self._channel)
        second, text = _split_recipient(after_name)
        return Address(_CHANNELS[name], recipient or second), text


def _split_word(text: bytes) -> tuple[bytes, bytes]:
    """The first word, and what follows it with its blanks."""
    word = text.split(None, 1)[0] if text.strip() else b""
    return word, text[text.index(word) + len(word) :]


def _split_recipient(text: bytes) -> tuple[str | None, bytes]:
    match = _LEADING_RECIPIENT.match(text)
    return (None, text) if match is None else (_recipient(match), text[match.end() :])


def _recipient(match: re.Match[bytes] | None) -> str | None:
    if match is None:
        return None
    name = match[1].decode(errors="replace")
    return None if name in _READERS else name
