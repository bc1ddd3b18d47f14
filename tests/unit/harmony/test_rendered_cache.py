import threading
from array import array
from concurrent.futures import ThreadPoolExecutor

import pytest

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony.rendered_cache import RenderedPrompt, RenderedPromptCache


def prompt(tokens: int) -> RenderedPrompt:
    return RenderedPrompt(array("i", range(tokens)), f"hash of {tokens}", "key")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ask(cache: RenderedPromptCache, key: str, tokens: int = 3) -> str:
    rendered, miss = cache.get_or_render(key, lambda: prompt(tokens))
    assert rendered == prompt(tokens)
    return miss or "hit"


def test_second_request_hits_and_does_not_render() -> None:
    cache = RenderedPromptCache()
    assert ask(cache, "a") == "new"
    rendered, miss = cache.get_or_render("a", lambda: pytest.fail("rendered again"))
    assert (rendered, miss) == (prompt(3), None)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries, stats.tokens) == (1, {"new": 1}, 1, 3)


def test_least_recently_used_goes_first() -> None:
    cache = RenderedPromptCache(entries=2)
    assert [ask(cache, key) for key in "aba"] == ["new", "new", "hit"]
    assert ask(cache, "c") == "new"  # b goes
    assert [ask(cache, key) for key in "acb"] == ["hit", "hit", "evicted"]
    assert cache.stats().entries == 2


def test_age_counts_from_rendering() -> None:
    clock = Clock()
    cache = RenderedPromptCache(ttl_s=10, timer=clock)
    ask(cache, "a")
    clock.now += 9
    assert ask(cache, "a") == "hit"
    clock.now += 1
    assert cache.stats().entries == 0
    assert ask(cache, "a") == "expired"
    assert ask(cache, "a") == "hit"


def test_tokens_are_bounded() -> None:
    cache = RenderedPromptCache(max_tokens=10)
    assert [ask(cache, "a", 6), ask(cache, "b", 4), ask(cache, "c", 3)] == ["new", "new", "new"]
    assert cache.stats().tokens == 7
    assert ask(cache, "a", 6) == "evicted"
    assert [ask(cache, "long", 11), ask(cache, "long", 11)] == ["new", "evicted"]
    assert cache.stats().tokens <= 10


def test_no_entries_means_disabled() -> None:
    cache = RenderedPromptCache(entries=0)
    assert [ask(cache, "a"), ask(cache, "a")] == ["disabled", "disabled"]
    assert cache.stats().entries == 0


def test_a_refused_prompt_is_not_stored() -> None:
    cache = RenderedPromptCache()

    def refuse() -> RenderedPrompt:
        raise InvalidRequest("no")

    with pytest.raises(InvalidRequest):
        cache.get_or_render("a", refuse)
    assert ask(cache, "a") == "new"


def test_threads_share_it() -> None:
    cache = RenderedPromptCache(entries=8, max_tokens=40)
    together = threading.Barrier(8)

    def work(seed: int) -> None:
        together.wait()
        for step in range(500):
            number = (seed * 7 + step) % 12 + 1
            ask(cache, str(number), number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    stats = cache.stats()
    assert stats.hits + sum(stats.misses.values()) == 8 * 500
    assert stats.entries <= 8
    assert stats.tokens <= 40
