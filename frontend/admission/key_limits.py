"""What each caller may use: requests and tokens per minute, and requests at once.

A request is charged with its estimate when it is let in, and with what it really took when it has ended. One for several
answers is one request until the last of them has ended, and is let in when its first answer is: what the others take counts
against the next request. A prompt is paid for once, however many answers it gets.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from frontend.admission.ask import Ask
from frontend.admission.refusal import Decision, Refusal
from frontend.admission.token_bucket import TokenBucket
from frontend.caller import Caller, KeyLimits
from gpt_oss_triton.errors import RateLimited
from gpt_oss_triton.telemetry.token_counts import TokenCounts

_CONCURRENCY_RETRY_S = 1.0  # when one of its own requests will end is the caller's to know


@dataclass(frozen=True, slots=True)
class Charge:
    """Tokens that an answer was charged with, and the use it was charged to.

    Attributes:
        request: whose answer it is; names it among those that run.
    """

    tokens: int
    use: _Use
    request: int


class _Use:
    """What one caller has used; full buckets and nothing running are as good as no entry."""

    def __init__(self, limits: KeyLimits, now: float) -> None:
        self.limits = limits
        self.running: Counter[int] = Counter()  # answers of each request
        self.requests = _bucket(limits.requests_per_minute, now)
        self.tokens = _bucket(limits.tokens_per_minute, now)

    def fill(self, now: float) -> None:
        for bucket in (self.requests, self.tokens):
            if bucket is not None:
                bucket.fill(now)

    def check(self, tokens: int) -> None:
        """Raises Refusal."""
        limits = self.limits
        if limits.concurrency is not None and len(self.running) >= limits.concurrency:
            raise _reached("rate_concurrency", f"{limits.concurrency} requests at once", _CONCURRENCY_RETRY_S)
        self.check_requests()
        if self.tokens is not None and (wait_s := self.tokens.wait_s(tokens)) > 0:
            raise _reached("rate_tokens", f"{limits.tokens_per_minute} tokens per minute", wait_s)

    def check_requests(self) -> None:
        """Raises Refusal."""
        if self.requests is not None and (wait_s := self.requests.wait_s(1)) > 0:
            limit = f"{self.limits.requests_per_minute} requests per minute"
            raise _reached("rate_requests", limit, wait_s)

    def count_request(self) -> None:
        if self.requests is not None:
            self.requests.level -= 1

    @property
    def idle(self) -> bool:
        buckets = (self.requests, self.tokens)
        return not self.running and all(b is None or b.level >= b.per_minute for b in buckets)


def _bucket(per_minute: int | None, now: float) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(per_minute, per_minute, now)


def _reached(reason: Decision, limit: str, wait_s: float) -> Refusal:
    message = f"This API key's limit of {limit} is reached; try again in {wait_s:.1f} s."
    return Refusal(reason, RateLimited(message, retry_after_s=wait_s))


class CallerLimits:
    """Callers are known by name, of which there are as many as keys; idle ones leave.

    A caller whose limits have changed begins anew.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._uses: dict[str, _Use] = {}  # the one that was not looked at for longest comes first

    def __len__(self) -> int:
        return len(self._uses)

    def check(self, ask: Ask) -> None:
        """Raises Refusal when the caller may not use so much now."""
        self._use(ask.caller).check(ask.estimate.tokens)

    def count(self, caller: Caller) -> None:
        """A request that no engine is needed for. Raises Refusal when the caller has none left."""
        use = self._use(caller)
        use.check_requests()
        use.count_request()

    def charge(self, ask: Ask) -> None:
        use = self._use(ask.caller)
        request = id(ask.first or ask)
        use.running[request] += 1
        if ask.first is None:
            use.count_request()
        tokens = ask.estimate.output_tokens if ask.same_prompt else ask.estimate.tokens
        if use.tokens is not None:
            use.tokens.level -= tokens
        ask.charge = Charge(tokens, use, request)

    def settle(self, ask: Ask, counts: TokenCounts) -> None:
        """The request took so many tokens in the end."""
        charge, ask.charge = ask.charge, None
        if charge is None:
            return
        charge.use.running[charge.request] -= 1
        if not charge.use.running[charge.request]:
            del charge.use.running[charge.request]
        if charge.use.tokens is not None:
            tokens = counts.completion if ask.same_prompt else counts.prompt + counts.completion
            charge.use.tokens.level += charge.tokens - tokens

    def headers(self, caller: Caller) -> dict[str, str]:
        """OpenAI's `x-ratelimit-*` headers; none for what is not limited."""
        use = self._use(caller)
        found: dict[str, str] = {}
        for kind, bucket in (("requests", use.requests), ("tokens", use.tokens)):
            if bucket is not None:
                found[f"x-ratelimit-limit-{kind}"] = str(bucket.per_minute)
                found[f"x-ratelimit-remaining-{kind}"] = str(max(0, int(bucket.level)))
                found[f"x-ratelimit-reset-{kind}"] = f"{bucket.reset_s:.3f}s"
        return found

    def _use(self, caller: Caller) -> _Use:
        now = self._clock()
        use = self._uses.pop(caller.name, None)
        if use is None or use.limits != caller.limits:
            use = _Use(caller.limits, now)
        use.fill(now)
        self._forget_idle(now)
        self._uses[caller.name] = use
        return use

    def _forget_idle(self, now: float) -> None:
        """Two for each one that may have come: all idle ones leave in time, and no look costs much."""
        for name in list(islice(self._uses, 2)):
            use = self._uses.pop(name)
            use.fill(now)
            if not use.idle:
                self._uses[name] = use
