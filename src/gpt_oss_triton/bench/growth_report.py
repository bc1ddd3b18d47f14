"""A measured growth as Markdown tables, and as files."""

from __future__ import annotations

from pathlib import Path

import msgspec

from gpt_oss_triton.bench.growth import Curve, Growth
from gpt_oss_triton.bench.growth_figure import draw
from gpt_oss_triton.bench.machine_limit import Machine


def tables(growth: Growth) -> str:
    """What belongs into a page about it."""
    machine = growth.machine
    head = (
        f"`{growth.checkpoint}` in {growth.dtype}. {machine.name}: reads {_short(machine.bandwidth / 1e9)} GB/s, "
        f"{_short(machine.products / 1e9)} G multiply-adds/s, {machine.cache_bytes / 2**20:.0f} MiB of cache."
    )
    return "\n\n".join([head, *(_table(curve, machine) for curve in growth.curves)]) + "\n"


def write(growth: Growth, directory: Path) -> list[Path]:
    """growth.json with all figures, growth.md with the tables, growth.svg with the curves."""
    directory.mkdir(parents=True, exist_ok=True)
    raw, text, figure = (directory / f"growth.{kind}" for kind in ("json", "md", "svg"))
    raw.write_bytes(msgspec.json.format(msgspec.json.encode(growth), indent=1) + b"\n")
    text.write_text(tables(growth))
    draw(growth, figure)
    return [raw, text, figure]


def _table(curve: Curve, machine: Machine) -> str:
    rows = [
        [curve.x, *(f"{point.at:,}" for point in curve.points)],
        ["---"] * (len(curve.points) + 1),
        [f"{curve.y}, median", *(_short(point.median) for point in curve.points)],
        ["lowest, highest", *(_range(point.measured) for point in curve.points)],
        ["machine's limit", *(_short(curve.limit(point, machine)) for point in curve.points)],
        ["of the limit", *(f"{curve.of_limit(point, machine):.2f}" for point in curve.points)],
    ]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    title = curve.title[0].upper() + curve.title[1:]
    return "\n".join([f"{title}, {curve.label}:", "", *lines])


def _range(measured: list[float]) -> str:
    return f"{_short(min(measured))}, {_short(max(measured))}"


def _short(value: float) -> str:
    """Three digits, or all of a whole number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
