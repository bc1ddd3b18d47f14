from __future__ import annotations

import time
from typing import Any

import msgspec

from frontend.caller import Caller
from frontend.chat_messages import UserTurn
from frontend.responses.store import ResponseStore, Stored

ANNE, BERT = Caller("anne", "normal"), Caller("bert", "normal", salt="b")


def store_of(
    *, max_bytes: int = 2**20, max_entries: int = 100, ttl_s: float = 3600, clock: Any = time.monotonic
) -> ResponseStore:
    return ResponseStore(max_bytes, max_entries, ttl_s, clock)


def stored(size: int = 10) -> Stored:
    return Stored(b"x" * size, b"[]", [UserTurn("hi")])


def test_only_who_made_it_finds_it() -> None:
    store = store_of()
    store.put(ANNE, "r1", stored())
    assert store.get(ANNE, "r1") == stored()
    assert store.get(BERT, "r1") is None
    assert store.get(Caller("anne", "normal", salt="another"), "r1") is None
    assert not store.delete(BERT, "r1")
    assert store.delete(ANNE, "r1")
    assert store.get(ANNE, "r1") is None
    assert not store.delete(ANNE, "r1")


def test_the_least_recently_used_goes_first() -> None:
    store = store_of(max_entries=2)
    store.put(ANNE, "r1", stored())
    store.put(ANNE, "r2", stored())
    store.get(ANNE, "r1")
    store.put(ANNE, "r3", stored())
    assert [store.get(ANNE, name) is not None for name in ("r1", "r2", "r3")] == [True, False, True]


def test_who_holds_most_makes_room() -> None:
    store = store_of(max_bytes=6 * stored(1000).size)
    store.put(BERT, "b", stored(1000))
    for number in range(20):
        store.put(ANNE, f"a{number}", stored(1000))
    assert store.get(BERT, "b") is not None
    assert [store.get(ANNE, f"a{number}") is not None for number in range(20)] == [False] * 15 + [True] * 5


def test_who_holds_most_makes_room_for_entries_however_small_its_own_are() -> None:
    store = store_of(max_entries=6)
    for name in ("b1", "b2"):
        store.put(BERT, name, stored(50_000))
    for number in range(20):
        store.put(ANNE, f"a{number}", stored(1))
    assert [store.get(BERT, name) is not None for name in ("b1", "b2")] == [True, True]
    assert [store.get(ANNE, f"a{number}") is not None for number in range(20)] == [False] * 16 + [True] * 4


def test_who_holds_most_makes_room_for_bytes_however_few_its_entries_are() -> None:
    store = store_of(max_bytes=stored(50_000).size + 8 * stored(1000).size)
    store.put(ANNE, "a1", stored(50_000))
    for number in range(9):
        store.put(BERT, f"b{number}", stored(1000))
    assert store.get(ANNE, "a1") is None
    assert all(store.get(BERT, f"b{number}") is not None for number in range(9))


def test_what_is_larger_than_all_is_not_kept() -> None:
    store = store_of(max_bytes=5000)
    store.put(ANNE, "small", stored())
    store.put(ANNE, "large", stored(6000))
    assert store.get(ANNE, "large") is None
    assert store.get(ANNE, "small") is not None


def test_age_counts_from_the_last_use() -> None:
    now = 0.0
    store = store_of(ttl_s=10, clock=lambda: now)
    store.put(ANNE, "r1", stored())
    store.put(ANNE, "r2", stored())
    now = 8
    assert store.get(ANNE, "r1") is not None
    now = 12
    assert store.get(ANNE, "r2") is None
    assert store.get(ANNE, "r1") is not None
    now = 23
    assert store.get(ANNE, "r1") is None


def with_items(*ids: str, text: str = "") -> Stored:
    output = msgspec.json.encode({"output": [{"id": item_id, "text": text} for item_id in ids[1:]]})
    given = msgspec.json.encode([{"id": item_id, "text": text} for item_id in ids[:1]])
    return Stored(output, given, [], ids)


def test_items_are_found_by_their_ids() -> None:
    store = store_of()
    store.put(ANNE, "r1", with_items("a", "b"))
    assert store.items(ANNE, ["b", "a", "c"]) == {"a": {"id": "a", "text": ""}, "b": {"id": "b", "text": ""}}
    assert store.items(BERT, ["a"]) == {}


def test_an_item_is_that_of_the_last_response_that_has_it() -> None:
    store = store_of()
    store.put(ANNE, "r1", with_items("a", "b", text="old"))
    store.put(ANNE, "r2", with_items("a", "c", text="new"))
    found = store.items(ANNE, ["a", "b", "c"])
    assert {item_id: item["text"] for item_id, item in found.items()} == {"a": "new", "b": "old", "c": "new"}


def test_items_go_with_their_response() -> None:
    store = store_of(max_entries=1)
    store.put(ANNE, "r1", with_items("a"))
    store.put(ANNE, "r2", with_items("b"))
    assert store.items(ANNE, ["a", "b"]).keys() == {"b"}
    store.delete(ANNE, "r2")
    assert store.items(ANNE, ["b"]) == {}


def test_an_item_is_found_as_long_as_a_response_has_it() -> None:
    """A conversation that is sent as items has those of the response before it."""
    now = 0.0
    store = store_of(max_entries=3, ttl_s=10, clock=lambda: now)
    for name in ("old", "new", "newest"):
        store.put(ANNE, name, with_items("a", "a", text=name))

    def text() -> str | None:
        return next((item["text"] for item in store.items(ANNE, ["a"]).values()), None)

    assert text() == "newest"
    store.delete(ANNE, "newest")
    assert text() == "new"
    store.put(ANNE, "other", with_items("b"))
    store.put(ANNE, "another", with_items("b"))  # for whose room the old one goes
    assert text() == "new"
    now = 8
    assert store.items(ANNE, ["b"]).keys() == {"b"}
    now = 12
    assert text() is None
    (shelf,) = store._shelves.values()
    assert shelf.holders == {"b": ["another"]}
