"""What memory allows a model, and the command that measures a model of some size from start to end."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from gpt_oss_triton.bench import shape
from gpt_oss_triton.bench.__main__ import main
from gpt_oss_triton.bench.memory_limit import chosen_experts, step_bytes
from gpt_oss_triton.checkpoint.shapes import SHAPES
from gpt_oss_triton.engine.model_config import ModelConfig

CPU = torch.device("cpu")


@pytest.fixture
def config_20b(checkpoint):
    tiny = ModelConfig.from_checkpoint(checkpoint("mxfp4"))
    return dataclasses.replace(tiny, **dataclasses.asdict(SHAPES["20b"]), is_sliding=(True, False) * 12)


@pytest.mark.parametrize(("sequences", "gigabytes"), [(1, 3.74), (64, 14.4)])
def test_bytes_of_a_decode_step(config_20b, sequences, gigabytes):
    """By hand, for gpt-oss-20b at 1k context: 2.4 GB without experts, 4 of 32 experts for one sequence, nearly all
    for 64, and keys and values."""
    got = step_bytes(config_20b, torch.bfloat16, CPU, sequences, context=1024) / 1e9
    assert got == pytest.approx(gigabytes, rel=0.03)


def test_chosen_experts(config_20b):
    assert chosen_experts(config_20b, 1) == pytest.approx(4)
    assert chosen_experts(config_20b, 1000) == pytest.approx(32)


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
