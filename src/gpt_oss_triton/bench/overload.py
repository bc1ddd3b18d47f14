"""What becomes of a server that is asked for more than it can do, and of those who ask.

First its capacity is measured, with as many clients as it serves at once. Then requests come at multiples of
it, without waiting for answers. Or one API key floods the server while others send what they always do.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from gpt_oss_triton.bench.open_loop import Requests, Sent, Source, closed_loop
from gpt_oss_triton.bench.plain_http import PlainHttp
from gpt_oss_triton.bench.rows import Row, milliseconds, ratio, say

REFERENCE = 0.8  # the multiple whose time to first token the others are held to
_PAUSE_S = 2.0  # between two measurements


@dataclass(frozen=True, slots=True)
class Plan:
    """Attributes:
    streams: clients of the capacity's measurement.
    warm_up_s: of each measurement, not counted.
    seconds: of each measurement after that.
    obey: share of the refused clients that come back when told to.
    capacity: requests per second; None: measure it.
    """

    url: str
    requests: Requests
    streams: int = 64
    warm_up_s: float = 15.0
    seconds: float = 45.0
    obey: float = 0.02
    capacity: float | None = None
    seed: int = 0


def measure_multiples(plan: Plan, multiples: list[float], key: str | None) -> None:
    """Print one JSON line for each multiple, then what they come to."""
    rows = asyncio.run(_multiples(plan, multiples, key))
    peak = max(row["goodput"] for row in rows)
    reference = next((row for row in rows if row["multiple"] == REFERENCE), rows[0])
    loaded = [row for row in rows if row["multiple"] >= 1] or rows
    say(
        {
            "peak_goodput": peak,
            "least_goodput_share": ratio(min(row["goodput"] for row in loaded), peak),
            "most_ttft_ratio": ratio(_most(loaded, "ttft_p95_ms"), reference["ttft_p95_ms"]),
            "refusal_p99_ms": _most(rows, "refusal_p99_ms"),
        }
    )


def _most(rows: list[Row], name: str) -> float | None:
    return max((row[name] for row in rows if row[name] is not None), default=None)


def measure_flood(plan: Plan, keys: list[str], flood: float, normal: float) -> None:
    """Print one JSON line for each group, without and with the flood.

    Args:
        keys: the first one floods, the others share the normal load.
        flood, normal: multiples of the capacity.
    """
    asyncio.run(_flood(plan, keys, flood, normal))


async def _multiples(plan: Plan, multiples: list[float], key: str | None) -> list[Row]:
    rows = []
    async with PlainHttp(plan.url) as client:
        capacity = await _capacity(client, plan, key)
        for multiple in multiples:
            source = Source(multiple * capacity, f"{plan.seed}/{multiple}", key, plan.obey)
            window = await _run(client, plan, [source])
            rows.append(
                {"multiple": multiple, "offered": round(source.rate, 2), **figures(source.sent, *window)}
            )
            say(rows[-1])
    return rows


async def _flood(plan: Plan, keys: list[str], flood: float, normal: float) -> None:
    async with PlainHttp(plan.url) as client:
        capacity = await _capacity(client, plan, keys[0])
        goodput = {}
        for name, rate in (("without", 0.0), ("with", flood * capacity)):
            each = normal * capacity / (len(keys) - 1)
            others = [Source(each, f"{plan.seed}/{n}", key, plan.obey) for n, key in enumerate(keys[1:])]
            flooder = Source(rate, f"{plan.seed}/flood", keys[0], plan.obey)
            window = await _run(client, plan, [*others, flooder] if rate else others)
            row = figures([sent for source in others for sent in source.sent], *window)
            goodput[name] = row["goodput"]
            say({"flood": name, "group": "others", "offered": round(normal * capacity, 2), **row})
            if rate:
                row = figures(flooder.sent, *window)
                say({"flood": name, "group": "flooder", "offered": round(rate, 2), **row})
        say({"others_keep": ratio(goodput["with"], goodput["without"])})


async def _capacity(client: PlainHttp, plan: Plan, key: str | None) -> float:
    """Answers per second in a closed loop."""
    if plan.capacity is not None:
        return plan.capacity
    begin = time.perf_counter() + plan.warm_up_s
    sent = await closed_loop(client, plan.requests, plan.streams, plan.warm_up_s + plan.seconds, key)
    row = figures(sent, begin, begin + plan.seconds)
    say({"streams": plan.streams, **row})
    await asyncio.sleep(_PAUSE_S)
    return float(row["goodput"])


async def _run(client: PlainHttp, plan: Plan, sources: list[Source]) -> tuple[float, float]:
    """Let all sources send; the window that counts."""
    begin = time.perf_counter() + plan.warm_up_s
    total_s = plan.warm_up_s + plan.seconds
    await asyncio.gather(*(source.run(client, plan.requests, total_s) for source in sources))
    await asyncio.sleep(_PAUSE_S)
    return begin, begin + plan.seconds


def figures(sent: list[Sent], begin: float, end: float) -> Row:
    """What happened in a window: rates per second of what ended in it, and how those fared that were sent in it.
    Admitted at `Retry-After`: of those that obeyed."""
    ended = [s for s in sent if s.ok and s.ended is not None and begin <= s.ended < end]
    window = [s for s in sent if begin <= s.at < end]
    first_tokens = [s.first_token - s.at for s in window if s.ok and s.first_token is not None]
    refusals = [s.ended - s.at for s in window if s.refused and s.ended is not None]
    obeyed = [s.returned for s in window if s.returned is not None]
    failed = [s.error for s in window if s.error is not None]
    row: Row = {
        "goodput": round(len(ended) / (end - begin), 2),
        "output_tokens_per_s": round(sum(s.tokens for s in ended) / (end - begin), 1),
        "sent": len(window),
        "admitted": len(first_tokens),
        "refused": len(refusals),
        "failed": len(failed),
        "ttft_p50_ms": milliseconds(first_tokens, 0.5),
        "ttft_p95_ms": milliseconds(first_tokens, 0.95),
        "refusal_p50_ms": milliseconds(refusals, 0.5),
        "refusal_p99_ms": milliseconds(refusals, 0.99),
        "obeyed": len(obeyed),
        "obeyed_admitted": sum(s.ok for s in obeyed),
    }
    return {**row, "first_error": failed[0]} if failed else row
