"""The command that measures a model of some size from start to end."""

from __future__ import annotations

import json

import pytest

from gpt_oss_triton.bench import shape
from gpt_oss_triton.bench.__main__ import main


@pytest.mark.slow
def test_one_command_measures_it_all(tmp_path, capsys, monkeypatch):
    """On the smallest model and this CPU."""
    monkeypatch.setattr(shape, "OPERATION_SEQUENCES", [2])
    arguments = "engine --shape tiny --streams 1 2 --prompt-tokens 16 40 --output-tokens 4 --prompt-words 8 --threads 1"
    main([*arguments.split(), "--scratch", str(tmp_path)])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0]["read_limit_gb_per_s"] > 0
    assert [row["streams"] for row in rows if "streams" in row] == [1, 2]
    assert all(row["failed"] == 0 and row["of_limit"] > 0 for row in rows if "streams" in row)
    assert [row["prompt_tokens"] for row in rows if "prompt_tokens" in row] == [16, 40]
    names = {row["operation"] for row in rows if "operation" in row}
    assert {"qkv", "experts", "logits", "attention over 128 tokens", "attention over 1024 tokens"} <= names
    assert list(tmp_path.iterdir()) == [], "the checkpoint was left behind"
