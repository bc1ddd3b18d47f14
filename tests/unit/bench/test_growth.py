"""How cost grows: the tables and the figure of given figures, and the command from start to end."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from gpt_oss_triton.bench import growth, machine_limit
from gpt_oss_triton.bench.__main__ import main
from gpt_oss_triton.bench.growth import Curve, Growth, Plan, Point
from gpt_oss_triton.bench.growth_report import tables, write
from gpt_oss_triton.bench.machine_limit import Machine
from gpt_oss_triton.bench.model_work import Work

MACHINE = Machine("CPU, 2 threads", bandwidth=25.5e9, products=537e9, cache_bytes=32 * 2**20)
STEP = Work(bytes=32 * 2**20 + 255e6, products=0)  # 10 ms on it
GROWTH = Growth(
    "bench-mxfp4",
    "bfloat16",
    MACHINE,
    [
        Curve(
            "output tokens/s by streams", "closed loop", "streams", "tokens/s",
            [Point(1, STEP, [70.0, 80.0, 75.0]), Point(64, STEP, [1600.0, 1280.0])], rate=True,
        ),
        Curve(
            "step time by context", "1 stream", "context tokens", "ms",
            [Point(128, STEP, [20.0]), Point(1024, STEP, [25.04])],
        ),
        Curve(
            "step time by context", "8 streams", "context tokens", "ms",
            [Point(128, STEP, [30.0]), Point(1024, STEP, [35.0])],
        ),
    ],
)  # fmt: skip


def test_tables():
    assert tables(GROWTH).splitlines()[:18] == [
        "`bench-mxfp4` in bfloat16. CPU, 2 threads: reads 25.5 GB/s, 537 G multiply-adds/s, 32 MiB of cache.",
        "",
        "Output tokens/s by streams, closed loop:",
        "",
        "| streams | 1 | 64 |",
        "| --- | --- | --- |",
        "| tokens/s, median | 75 | 1,440 |",
        "| lowest, highest | 70, 80 | 1,280, 1,600 |",
        "| machine's limit | 100 | 6,400 |",
        "| of the limit | 0.75 | 0.23 |",
        "",
        "Step time by context, 1 stream:",
        "",
        "| context tokens | 128 | 1,024 |",
        "| --- | --- | --- |",
        "| ms, median | 20 | 25 |",
        "| lowest, highest | 20, 20 | 25, 25 |",
        "| machine's limit | 10 | 10 |",
    ]


def test_the_figure_has_a_panel_for_each_title_and_says_what_it_shows(tmp_path):
    raw, text, figure = write(GROWTH, tmp_path / "new" / "directory")
    words = [element.text for element in ElementTree.parse(figure).iter("{http://www.w3.org/2000/svg}text")]  # noqa: S314
    assert words.count("output tokens/s by streams") == words.count("step time by context") == 1
    assert words.count("machine's limit") == 3
    assert {
        "closed loop",
        "1 stream",
        "8 streams",
        "streams",
        "context tokens",
        "tokens/s",
        "ms",
        "1k",
    } <= set(words)
    assert text.read_text() == tables(GROWTH)
    assert json.loads(raw.read_text())["curves"][0]["points"][1]["measured"] == [1600.0, 1280.0]


def test_the_same_figures_make_the_same_file(tmp_path):
    first, second = (write(GROWTH, tmp_path / name)[2].read_bytes() for name in "ab")
    assert first == second


def test_streams_have_room_until_all_of_them_run():
    plan = Plan([1], [10], [1024], [1, 8], rounds=1)
    assert plan.step_room == 8 * 8 + 64
    assert plan.max_context >= 1024 + plan.step_room


@pytest.mark.slow
def test_one_command_measures_it_all(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(machine_limit, "COLD_BYTES", 2**22)
    monkeypatch.setattr(machine_limit, "SIDE", 128)
    monkeypatch.setattr(growth, "STEPS", 4)
    out = tmp_path / "out"
    points = (
        "--streams 1 2 --prompt-tokens 16 40 --contexts 16 48 --step-streams 2 --repeat 2 --prompt-words 4"
    )
    main([*f"growth --checkpoint {checkpoint('fp32')} --out {out} --threads 1".split(), *points.split()])
    assert capsys.readouterr().out == (out / "growth.md").read_text()
    curves = json.loads((out / "growth.json").read_text())["curves"]
    assert [[point["at"] for point in curve["points"]] for curve in curves] == [[1, 2], [16, 40], [16, 48]]
    for curve in curves:
        for point in curve["points"]:
            assert len(point["measured"]) == 2
            assert min(point["measured"]) > 0
            assert point["work"]["bytes"] > 0


def test_a_cache_that_is_too_small_is_said(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(machine_limit, "COLD_BYTES", 2**22)
    monkeypatch.setattr(machine_limit, "SIDE", 128)
    monkeypatch.setenv("GPT_OSS_KV_CACHE_GIB", "0.002")
    with pytest.raises(SystemExit, match="GPT_OSS_KV_CACHE_GIB"):
        main(["growth", "--checkpoint", str(checkpoint("fp32")), "--out", str(tmp_path), "--threads", "1"])
    assert list(tmp_path.iterdir()) == []
