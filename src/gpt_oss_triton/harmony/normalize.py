"""Two names for a prompt: the exact hash of its ids, and a key that forgets what changes on every call.

The normalized key is for affinity and statistics only. Nothing is answered from it, so a replacement too
many (a ten-digit number taken for a timestamp) costs nothing but a shared key.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from array import array
from collections.abc import Callable
from typing import Any

from gpt_oss_triton.harmony.tokens import decode
from gpt_oss_triton.wire import Message, PromptRequest


def prompt_hash(ids: list[int]) -> str:
    """Hex SHA-256 of the ids as little-endian int32."""
    words = array("i", ids)
    if array("H", [1]).tobytes() != b"\x01\x00":
        words.byteswap()
    return hashlib.sha256(words.tobytes()).hexdigest()


def normalized_key(prompt: PromptRequest) -> str:
    """Hex SHA-256 of the prompt with each volatile item of its texts replaced by a fixed word. Schemas count as they
    are."""
    turns = [_turn(message) for message in prompt.messages]
    tools = [[tool.name, normalize_text(tool.description), tool.parameters] for tool in prompt.tools]
    wanted = prompt.response_format
    parts: list[Any] = [prompt.reasoning_effort, turns, tools]
    parts.append(None if wanted is None else [wanted.name, normalize_text(wanted.description), wanted.schema])
    text = decode(prompt.token_ids) if prompt.token_ids is not None else prompt.text
    parts.append(None if text is None else normalize_text(text))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _turn(message: Message) -> list[Any]:
    texts = [message.content, message.reasoning or "", *(call.arguments for call in message.tool_calls)]
    names = [message.role, message.name, *(call.name for call in message.tool_calls)]
    return [names, [normalize_text(text) for text in texts]]


def normalize_text(text: str) -> str:
    """Timestamps, UUIDs, session ids, paths, IP addresses and hashes become `<time>`, `<uuid>` and so on.

    Linear in the text's length: every repetition below is bounded, possessive, or ends the pattern.
    """
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if _CANDIDATE.search(line):
            for pattern, replacement in _RULES:
                line = pattern.sub(replacement, line)
            lines[index] = line
    return "\n".join(lines)


# Every item below has a digit, a slash or backslash, an IPv6 group, or the word that names a session.
_CANDIDATE = re.compile(r"[0-9/\\]|:[a-f]{0,4}:|sess|sid", re.IGNORECASE)

_MONTH = (
    r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?"
    r"|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)\b\.?"
)
_WEEKDAY = r"(?:Mon|Tue(?:s)?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?"
_ZONE = r"(?:Z\b|[A-Z]{2,4}\b|[+-][0-9]{2}:?[0-9]{2}\b)"
_CLOCK = (
    r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:[.,][0-9]{1,9})?)?"
    rf"(?: ?[AaPp]\.?[Mm]\b\.?)?(?: ?{_ZONE})?(?![0-9A-Za-z_]|:[0-9])"
)
_DAY = r"[0-9]{1,2}(?:st|nd|rd|th)?"
_DATE = (
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"|[0-9]{4}[/.][0-9]{1,2}[/.][0-9]{1,2}"
    r"|[0-9]{1,2}[/.-][0-9]{1,2}[/.-](?:[0-9]{4}|[0-9]{2})"
    rf"|{_DAY}[ -]{_MONTH},?[ -][0-9]{{4}}"
    rf"|{_MONTH} {{1,2}}{_DAY}(?:,? [0-9]{{4}}\b)?)"
)
_TIME = (
    r"(?<![0-9A-Za-z_.:/-])(?:"
    r"[0-9]{8}T[0-9]{4,6}(?:\.[0-9]{1,9})?Z?(?![0-9A-Za-z_])"
    rf"|(?:{_WEEKDAY},? )?{_DATE}(?![0-9/-])(?:(?:T|,? (?:at )?){_CLOCK}(?: [0-9]{{4}}\b)?)?"
    rf"|{_CLOCK})"
)
_EPOCH = r"(?<![0-9A-Za-z_.])1[0-9]{9}(?:[0-9]{3}|[0-9]{6}|[0-9]{9}|\.[0-9]{1,9})?(?![0-9A-Za-z_])"

_SESSION = (
    r"""(?P<name>\bsess(?:ion)?(?:[_ -]?id)?\b|\bsid\b)(?P<sign>["']? ?[=:] ?)(?P<quote>["']?)"""
    r"""[^\s"'&;,<>)}\]]++"""
)
_SESSION_ID = r"\bsess(?:ion)?[-_](?=[A-Za-z]{0,40}[0-9])[0-9A-Za-z_-]++"
_UUID = r"(?<![0-9A-Za-z])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![0-9A-Za-z])"

_NOT_IN_PATH = r"""\s"'`<>|*?:;,()\[\]{}"""
_WINDOWS_PATH = rf"(?<![0-9A-Za-z_])(?:[A-Za-z]:[\\/]|\\\\[0-9A-Za-z])[^{_NOT_IN_PATH}]*+"
_POSIX_PATH = rf"(?<![0-9A-Za-z_/:.<~\\])(?:~|\.{{1,2}})?/[^/\\{_NOT_IN_PATH}][^{_NOT_IN_PATH}]*+"

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
_IPV4 = (
    rf"(?<![0-9A-Za-z_.])(?:{_OCTET}\.){{3}}{_OCTET}(?:/[0-9]{{1,2}}|:[0-9]{{1,5}})?(?![0-9A-Za-z_]|\.[0-9])"
)
_IPV6 = (
    r"(?<![0-9A-Za-z_:.])(?=[0-9a-f]{0,4}:[0-9a-f]{0,4}:)"
    rf"(?P<address>[0-9a-f:]{{2,39}}:{_OCTET}(?:\.{_OCTET}){{3}}|[0-9a-f:]{{2,39}})(?:%[0-9a-z]{{1,16}})?(?![0-9A-Za-z_:])"
)

_HASH = r"(?<![0-9A-Za-z_])(?:[0-9a-f]{128}|[0-9a-f]{96}|[0-9a-f]{64}|[0-9a-f]{56}|[0-9a-f]{40}|[0-9a-f]{32})(?![0-9A-Za-z_])"
# A short hash is taken for one only after a word that announces it, and with a digit in it.
_SHORT_HASH = r"(?P<before>\b(?:commit|revision|rev|sha|blob|tree|parent|merge|HEAD)(?:[ :=@]| is |: ))(?=[a-f]{0,39}[0-9])[0-9a-f]{7,40}(?![0-9A-Za-z_])"


def _ipv6(match: re.Match[str]) -> str:
    try:
        address = ipaddress.IPv6Address(match["address"])
    except ValueError:
        return match[0]
    return "<ip>" if int(address) else match[0]  # "::" alone is more often code than an address


_Replacement = str | Callable[[re.Match[str]], str]
# In this order: a session's value may be a UUID, and a path may hold anything but a session.
_RULES: tuple[tuple[re.Pattern[str], _Replacement], ...] = (
    (re.compile(_SESSION, re.IGNORECASE), r"\g<name>\g<sign>\g<quote><session>"),
    (re.compile(_SESSION_ID, re.IGNORECASE), "<session>"),
    (re.compile(_WINDOWS_PATH), "<path>"),
    (re.compile(_POSIX_PATH), "<path>"),
    (re.compile(_UUID, re.IGNORECASE), "<uuid>"),
    (re.compile(_HASH, re.IGNORECASE), "<hash>"),
    (re.compile(_SHORT_HASH, re.IGNORECASE), r"\g<before><hash>"),
    (re.compile(_IPV6, re.IGNORECASE), _ipv6),
    (re.compile(_IPV4), "<ip>"),
    (re.compile(_TIME), "<time>"),
    (re.compile(_EPOCH), "<time>"),
)
