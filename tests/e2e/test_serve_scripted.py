"""`scripts/serve` with a script for an engine: no checkpoint is built or looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_serve import Launcher

pytestmark = pytest.mark.slow


def test_a_script_is_served_without_a_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "answers.jsonl"
    script.write_text('{"contains": "Hello", "text": "<|channel|>final<|message|>Hello back!<|return|>"}')
    launcher = Launcher(
        tmp_path, "--port", "0", GPT_OSS_ENGINE="scripted", GPT_OSS_SCRIPT=str(script)
    ).ready()
    try:
        answer = launcher.ask(model="gpt-oss-20b", max_tokens=None)
        assert answer["choices"][0]["message"]["content"] == "Hello back!"
        assert not list(tmp_path.rglob("*.safetensors"))
    finally:
        assert launcher.stop() == 0
    assert "no model runs" in launcher.told
