import datetime
import hashlib
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt_oss_triton.harmony.normalize import normalize_text, normalized_key, prompt_hash
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import Message, PromptRequest, ResponseFormat, Tool, ToolCall

CASES = {
    "at 2025-06-28T10:11:12.123456Z ok": "at <time> ok",
    "on 2025-06-28 10:11:12 +02:00, then": "on <time>, then",
    "[2025-06-28 10:11:12,345] INFO": "[<time>] INFO",
    "2025-06-28": "<time>",
    "20250628T101112Z": "<time>",
    "Sat, 28 Jun 2025 10:11:12 GMT": "<time>",
    "Sat Jun 28 10:11:12 UTC 2025": "<time>",
    "June 28, 2025 at 3:04 PM": "<time>",
    "28/06/2025 10:11": "<time>",
    "t=1751105472 and 1751105472123": "t=<time> and <time>",
    "1751105472.25": "<time>",
    "at 10:11:12 sharp": "at <time> sharp",
    "id 123e4567-e89b-12d3-a456-426614174000.": "id <uuid>.",
    "session_id=abc123&x=1": "session_id=<session>&x=1",
    '{"session": "s-77", "sessionId":"q"}': '{"session": "<session>", "sessionId":"<session>"}',
    "resume sess-9f8e7d now": "resume <session> now",
    "open /home/u/x.txt, ~/a/b and ./c": "open <path>, <path> and <path>",
    r"C:\Users\me\f.txt and \\srv\share\x": "<path> and <path>",
    "10.0.0.1:80 in 192.168.1.0/24": "<ip> in <ip>",
    "fe80::1%eth0 2001:db8::ff00:42:8329 ::1 ::ffff:10.0.0.1": "<ip> <ip> <ip> <ip>",
    "md5 d41d8cd98f00b204e9800998ecf8427e": "md5 <hash>",
    "commit 1a2b3c4d by": "commit <hash> by",
}
UNTOUCHED = [
    "the session is long, and so are 12 sessions",
    "either and/or both, 1/2 of it",
    "see https://example.org/docs for std::vector and ns::call",
    "version 1.2.3, ratio 3:4, 42 apples, deadbeef, commit to it",
    "<b>bold</b> and a == b // comment",
    "chapter 12 of 1984",
]


@pytest.mark.parametrize(("text", "normalized"), CASES.items())
def test_forms(text: str, normalized: str) -> None:
    assert normalize_text(text) == normalized


@pytest.mark.parametrize("text", UNTOUCHED)
def test_ordinary_text_is_untouched(text: str) -> None:
    assert normalize_text(text) == text


def _paths(names: list[str]) -> list[str]:
    return ["/" + "/".join(names), "C:\\" + "\\".join(names), "~/" + "/".join(names)]


when = st.datetimes(datetime.datetime(2002, 1, 1), datetime.datetime(2032, 1, 1))
word = st.from_regex(r"[A-Za-zäé0-9_.-]{0,12}[a-z0-9]", fullmatch=True)
VOLATILE: dict[str, st.SearchStrategy[str]] = {
    "iso": when.map(lambda t: t.isoformat(timespec="microseconds") + "Z"),
    "date": when.map(lambda t: t.strftime("%d/%m/%Y")),
    "rfc": when.map(lambda t: t.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    "long": when.map(lambda t: t.strftime("%B %d, %Y at %I:%M %p")),
    "clock": when.map(lambda t: t.strftime("%H:%M:%S")),
    "epoch": when.map(lambda t: str(int(t.timestamp()))),
    "epoch_ms": when.map(lambda t: str(int(t.timestamp() * 1000))),
    "uuid": st.uuids().map(str),
    "uuid_upper": st.uuids().map(lambda u: str(u).upper()),
    "session": word.map(lambda w: f"session_id={w}"),
    "session_json": word.map(lambda w: f'"session": "{w}"'),
    "sess": st.integers(0, 2**64).map(lambda n: f"sess-{n:x}0"),
    "posix": st.lists(word, min_size=1, max_size=5).map(lambda names: _paths(names)[0]),
    "windows": st.lists(word, min_size=1, max_size=5).map(lambda names: _paths(names)[1]),
    "home": st.lists(word, min_size=1, max_size=5).map(lambda names: _paths(names)[2]),
    "ipv4": st.ip_addresses(v=4).map(str),
    "ipv6": st.ip_addresses(v=6).filter(lambda a: int(a) > 0).map(str),
    "md5": st.binary(max_size=8).map(lambda b: hashlib.md5(b, usedforsecurity=False).hexdigest()),
    "sha1": st.binary(max_size=8).map(lambda b: hashlib.sha1(b, usedforsecurity=False).hexdigest()),
    "sha256": st.binary(max_size=8).map(lambda b: hashlib.sha256(b).hexdigest()),
}


def conversation(item: str, question: str = "What happened then?") -> PromptRequest:
    return PromptRequest(
        [Message("system", f"Log line ({item}) is current."), Message("user", f"Seen {item}\n{question}")]
    )


@pytest.mark.parametrize("kind", VOLATILE)
@given(data=st.data())
def test_key_is_stable_and_exact_hash_is_not(kind: str, data: st.DataObject) -> None:
    one, other = data.draw(VOLATILE[kind]), data.draw(VOLATILE[kind])
    first, second = conversation(one), conversation(other)
    assert normalized_key(first) == normalized_key(second), (one, other)
    assert (prompt_hash(render(first)) == prompt_hash(render(second))) is (one == other)


@given(
    st.text(st.characters(categories=["L", "Zs"]), max_size=30), st.text("abcäß東", min_size=1, max_size=9)
)
def test_different_words_have_different_keys(one: str, more: str) -> None:
    assert normalized_key(conversation("x", one)) != normalized_key(conversation("x", one + more))


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_texts_have_different_hashes(one: str, other: str) -> None:
    first, second = render(conversation("x", one)), render(conversation("x", other))
    assert (prompt_hash(first) == prompt_hash(second)) is (one == other)


CHANGES: list[Callable[[PromptRequest], PromptRequest]] = [
    lambda p: PromptRequest(p.messages, "high"),
    lambda p: PromptRequest(p.messages[::-1]),
    lambda p: PromptRequest([*p.messages, Message("assistant", "")]),
    lambda p: PromptRequest([p.messages[0], Message("user", p.messages[1].content, name="bob")]),
    lambda p: PromptRequest([Message("developer", p.messages[0].content), p.messages[1]]),
    lambda p: PromptRequest(p.messages, tools=[Tool("f")]),
    lambda p: PromptRequest(p.messages, tools=[Tool("f", parameters={"type": "object"})]),
    lambda p: PromptRequest(p.messages, response_format=ResponseFormat("f", {})),
    lambda p: PromptRequest([*p.messages, Message("tool", "", name="f")]),
    lambda p: PromptRequest([*p.messages, Message("assistant", tool_calls=[ToolCall("f", "")])]),
    lambda p: PromptRequest([*p.messages, Message("assistant", tool_calls=[ToolCall("f", "x")])]),
    lambda p: PromptRequest(text=p.messages[0].content),
    lambda p: PromptRequest(token_ids=[1]),
]


def test_the_changes_differ_from_each_other() -> None:
    assert len({normalized_key(change(conversation("x"))) for change in CHANGES}) == len(CHANGES)


def test_volatile_items_of_calls_and_tools_do_not_count() -> None:
    def called(item: str) -> PromptRequest:
        call = Message("assistant", tool_calls=[ToolCall("f", item)])
        return PromptRequest([call, Message("tool", item, name="f")], tools=[Tool("f", item)])

    assert normalized_key(called("at 10:11:12")) == normalized_key(called("at 11:12:13"))
    assert normalized_key(PromptRequest(text="at 10:11:12")) == normalized_key(
        PromptRequest(text="at 11:12:13")
    )


@pytest.mark.parametrize("change", CHANGES)
def test_key_sees_more_than_text(change: Callable[[PromptRequest], Any]) -> None:
    prompt = conversation("x")
    assert normalized_key(change(prompt)) != normalized_key(prompt)


def test_prompt_hash_is_over_little_endian_int32() -> None:
    assert prompt_hash([1, 200_006]) == hashlib.sha256(struct.pack("<2i", 1, 200_006)).hexdigest()


# Long runs that make a careless pattern quadratic; the text behind them must still be normalized.
@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "1",
        "/",
        "a/",
        " ~/",
        ":",
        "1:",
        "a:",
        "::1",
        "\\",
        "C:\\",
        "sess-",
        "session=",
        "session ",
        "sess_a",
        "1.",
        "1-",
        "123e4567-e89b-",
        "Jan 1",
        " ",
        "a1",
        "0 ",
        "commit ",
        "12/",
        "..",
        "Sat, ",
        "fe80::1%",
        'sid="',
    ],
)
def test_a_megabyte_of_near_misses(unit: str) -> None:
    text = unit * (1_000_000 // len(unit)) + "\n/etc/passwd"
    assert normalize_text(text).endswith("\n<path>")
