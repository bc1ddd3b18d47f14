"""The curves of a growth as one figure. On white, so that it can be read on a dark page too."""

from __future__ import annotations

import itertools
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from gpt_oss_triton.bench.growth import Curve, Growth
from gpt_oss_triton.bench.machine_limit import Machine

COLOURS = ("#1f5fa8", "#b3471d", "#3d7a2e", "#6b3fa0")
TEXT, GRID = "#222222", "#d8d8d8"
STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": "#888888",
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "svg.fonttype": "none",  # text stays text: a small file, that can be searched
    "svg.hashsalt": "growth",  # the same figures, the same file
}


def draw(growth: Growth, path: Path) -> None:
    """An SVG with a panel for each title."""
    panels = [list(curves) for _, curves in itertools.groupby(growth.curves, key=lambda curve: curve.title)]
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(4 * len(panels), 4.2), layout="constrained", facecolor="white")
        for axes, curves in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _panel(axes, curves, growth.machine)
        figure.suptitle(f"{growth.checkpoint} on {growth.machine.name}", fontsize=11)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _panel(axes: Axes, curves: list[Curve], machine: Machine) -> None:
    first = curves[0]
    for curve, colour in zip(curves, itertools.cycle(COLOURS), strict=False):
        at = [point.at for point in curve.points]
        limits = [curve.limit(point, machine) for point in curve.points]
        axes.plot(
            at, [point.median for point in curve.points], "o-", color=colour, markersize=4, label=curve.label
        )
        axes.plot(at, limits, "--", color=colour, linewidth=1.2, label="machine's limit")
    axes.set_title(first.title, fontsize=10, fontweight="bold")
    axes.set_xlabel(first.x)
    axes.set_ylabel(first.y)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = sorted({point.at for curve in curves for point in curve.points})
    axes.set_xticks(ticks, [_count(n) for n in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, fontsize=9, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16)
    )  # off the curves


def _count(n: int) -> str:
    return f"{n // 1024}k" if n >= 1024 and n % 1024 == 0 else str(n)
