"""What everything around the engine costs: the same requests through a server and through the engine alone, by turns.

A machine's speed may change by half from one minute to the next. A ratio of two rounds that follow each other hardly
notices; one of two runs of a benchmark does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from statistics import median

from gpt_oss_triton.bench.engine import measure_engine
from gpt_oss_triton.bench.http import Endpoint, measure_http
from gpt_oss_triton.bench.rows import Row
from gpt_oss_triton.bench.workload import Workload
from gpt_oss_triton.engine.protocol import Engine


def measure_overhead(
    engine: Engine,
    endpoint: Endpoint,
    workload: Workload,
    streams: int,
    pairs: int,
    show: Callable[[Row], None],
) -> Row:
    """Show each pair of rounds; the first of a pair is the other one each time.

    Args:
        engine: with the checkpoint and the settings of the server behind `endpoint`.

    Returns:
        The medians: `ratio` is that of the pairs' ratios.

    Raises:
        RuntimeError: a request failed.
    """
    sides: list[tuple[str, Callable[[Workload, int, int], Row]]] = [
        ("engine", partial(measure_engine, engine)),
        ("http", partial(measure_http, endpoint)),
    ]
    rates: dict[str, list[float]] = {"engine": [], "http": []}
    for number in range(pairs):
        for name, measure in sides[:: 1 if number % 2 else -1]:
            row = measure(workload, streams, number)
            if row["failed"]:
                raise RuntimeError(f"{row['failed']} requests failed, first: {row.get('first_error')}")
            rates[name].append(float(row["output_tokens_per_s"]))
            show({"through": name, **row})
    ratios = [through / alone for alone, through in zip(rates["engine"], rates["http"], strict=True)]
    return {
        "streams": streams,
        "pairs": pairs,
        "engine": median(rates["engine"]),
        "http": median(rates["http"]),
        "ratio": round(median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
    }
