"""Grammars that answers keep to, as masks over the vocabulary; llguidance does the work.

A grammar is Lark text over the whole answer. Control tokens stand in it under their names (`<|end|>`). Where it is
complete, the model's end tokens may come and nothing else. Ids without a name, reserved ones and padding, never may.

What all grammars share is made once for a process. That takes more than half a second, for most of which no other
thread gets on: `Grammars.prepare` has it done by the time that the weights are loaded.

A mask takes some ten microseconds, now and then a millisecond. It is computed on a small pool while the model computes
the logits that it is for.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import torch
from cachetools import LRUCache
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony import tokens

WORKERS = 2
# llguidance calls itself for each rule that leads to another. Only what is used takes memory.
STACK_BYTES = 2**28
MAX_COMPILED = 64  # grammars that are kept
MAX_REASON_CHARS = 300  # of llguidance's own words in an error
LIMITS = LLParserLimits(
    max_lexer_states=50_000,  # of 1 to 2 kB, for every answer that gets so far
    step_lexer_fuel=2_000_000,  # as `{"multipleOf": 50000}` needs; at worst some 50 ms
    verbose_errors=False,  # they would repeat the grammar
)


class Grammars:
    """Compiles grammars and keeps those used last. Any thread.

    Args:
        vocabulary: of the model.
        eos_token_ids: the model's.
    """

    @staticmethod
    def prepare(vocabulary: int, eos_token_ids: frozenset[int]) -> None:
        """Begin in a thread with what grammars of these arguments need."""
        threading.Thread(target=_shared, args=(vocabulary, eos_token_ids), name="grammar-vocabulary").start()

    def __init__(self, vocabulary: int, eos_token_ids: frozenset[int]) -> None:
        self._tokenizer, self._named = _shared(vocabulary, eos_token_ids)
        self._compiled: LRUCache[bytes, LLMatcher] = LRUCache(MAX_COMPILED)
        self._lock = threading.Lock()
        self._pool = _deep_pool(WORKERS, "grammar")
        self._compiler = _deep_pool(1, "grammar-compiler")  # masks are not to wait for it

    def matcher(self, text: str) -> Matcher:
        """The beginning of an answer that keeps to the grammar `text`. A new one can take a second to compile.

        Raises:
            InvalidRequest: it is no grammar, or one too large.
        """
        key = hashlib.blake2b(text.encode(), digest_size=16).digest()
        with self._lock:
            compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiler.submit(self._compile, text).result()
            if compiled.is_error():
                raise InvalidRequest(f"The grammar cannot be used: {_reason(compiled)}", param="grammar")
            with self._lock:
                self._compiled[key] = compiled
        return Matcher(compiled.deep_copy(), self._pool, self._named)

    def _compile(self, text: str) -> LLMatcher:
        grammar = LLMatcher.grammar_from_lark(text)
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=LIMITS)


class Matcher:
    """How far one answer has come in its grammar. Used by one thread, which asks what may come and then, when it has
    chosen a token, calls `advance`.

    Where only one text can come, its tokens are `forced`. The grammar is behind them at once, and the mask that is
    computed is that of what follows them.
    """

    def __init__(self, matcher: LLMatcher, pool: ThreadPoolExecutor, named: torch.Tensor) -> None:
        """`named`: the bits of the tokens that may come at all."""
        self._matcher = matcher
        self._pool = pool
        self._named = named
        self._compute(None)

    def forced(self) -> list[int]:
        """The tokens that come next for sure; none where there is a choice."""
        return list(self._forced.result())

    def allowed(self, ahead: int = 0) -> torch.Tensor:
        """The bits of the tokens that may come when `ahead` of the forced ones have come, int32 [vocabulary / 32]; good
        until `advance`.

        Raises:
            InvalidRequest: the grammar turned out too complex, or leaves no token.
        """
        forced = self._forced.result()
        return self._only(forced[ahead]) if ahead < len(forced) else self._mask.result()

    def advance(self, token: int) -> None:
        """`token` came."""
        forced = self._forced.result()
        if forced:
            forced.popleft()
        else:
            self._compute(token)

    def _compute(self, token: int | None) -> None:
        self._forced: Future[deque[int]] = Future()
        self._mask = self._pool.submit(self._take, token, self._forced)

    def _take(self, token: int | None, forced: Future[deque[int]]) -> torch.Tensor:
        coming: list[int] = []
        try:
            if token is not None:
                self._matcher.consume_token(token)  # an error shows in the mask
            coming = self._matcher.compute_ff_tokens()
        finally:
            forced.set_result(deque(coming))  # before the mask, which takes longer
        self._matcher.consume_tokens(coming)
        mask = torch.empty_like(self._named)
        self._matcher.unsafe_compute_mask_ptr(mask.data_ptr(), mask.nbytes)
        if self._matcher.is_error():
            raise InvalidRequest(
                f"The answer cannot go on within its grammar: {_reason(self._matcher)}", param="grammar"
            )
        return self._that_exist(mask)

    def _only(self, token: int) -> torch.Tensor:
        mask = torch.zeros_like(self._named)
        mask[token // 32] = torch.tensor(1, dtype=torch.int32) << token % 32
        return self._that_exist(mask)

    def _that_exist(self, mask: torch.Tensor) -> torch.Tensor:
        mask &= self._named
        if not mask.any():
            raise InvalidRequest("The grammar leaves no token that the model has.", param="grammar")
        return mask


def _deep_pool(workers: int, name: str) -> ThreadPoolExecutor:
    """Threads that a grammar of any length that is taken cannot make overflow."""
    pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
    usual = threading.stack_size(STACK_BYTES)
    try:
        started = threading.Barrier(workers + 1)
        for _ in range(workers):
            pool.submit(started.wait)
        started.wait()
    finally:
        threading.stack_size(usual)
    return pool


def _reason(matcher: LLMatcher) -> str:
    """llguidance's own words, on one line."""
    return " ".join(matcher.get_error().split())[:MAX_REASON_CHARS]


# --------------------------------------------------------------------------------------- vocabulary


class _Harmony:
    """o200k_harmony as llguidance wants to see a tokenizer."""

    bos_token_id = None

    def __init__(self, vocabulary: int, eos_token_id: int) -> None:
        self.eos_token_id = eos_token_id
        self.special_token_ids = list(range(tokens.FIRST_SPECIAL, vocabulary))
        self.tokens = [tokens.token_bytes(token) for token in range(min(tokens.FIRST_SPECIAL, vocabulary))]
        self.tokens += [tokens.decode([token]).encode() for token in self.special_token_ids]

    def __call__(self, text: str) -> list[int]:
        return tokens.encode_text(text)


_making = threading.Lock()


def _shared(vocabulary: int, eos_token_ids: frozenset[int]) -> tuple[LLTokenizer, torch.Tensor]:
    """llguidance's view of the vocabulary, and the bits of the tokens that may come at all."""
    with _making:  # whoever comes meanwhile waits, and makes no second one
        return _make_shared(vocabulary, tuple(sorted(eos_token_ids)))


@cache
def _make_shared(vocabulary: int, eos: tuple[int, ...]) -> tuple[LLTokenizer, torch.Tensor]:
    harmony = TokenizerWrapper(_Harmony(vocabulary, eos[0]))
    return LLTokenizer(harmony, n_vocab=vocabulary, eos_token=list(eos)), _named(vocabulary)


def _named(vocabulary: int) -> torch.Tensor:
    """The bits of all tokens but reserved ones and padding, int32 [vocabulary / 32]."""
    named = torch.zeros(-(-vocabulary // 32) * 32, dtype=torch.int32)
    named[: tokens.FIRST_SPECIAL] = 1
    for token in range(tokens.FIRST_SPECIAL, vocabulary):
        named[token] = not tokens.decode([token]).startswith("<|reserved_")
    bits = named.view(-1, 32).long() << torch.arange(32)
    return bits.sum(dim=1).to(torch.int32)
