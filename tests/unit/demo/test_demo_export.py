"""What was trained is what is served: the training model, transformers and the engine agree on a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.export import compact, restore, write_checkpoint
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.harmony.render import render_plain
from tests import oracle
from tests.engine_contract import Call
from tests.unit.demo.conftest import OWN, SMALL

# Longer than the sliding window of 128 tokens.
PAD = 199_999
PROMPT = render_plain("Seven grey herons stood in the shallow water and waited for 12 fish. " * 12)


@torch.no_grad()
def test_transformers_computes_the_same_logits(
    model: DemoModel, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = model.vocabulary.read  # sums of features, which a checkpoint holds rounded
    monkeypatch.setattr(model.vocabulary, "read", lambda tokens: read(tokens).bfloat16().float())
    theirs = oracle.load(exported)(torch.tensor([PROMPT])).logits[0]
    hidden = _states(model, PROMPT)
    first, last = (
        199_900,
        200_100,
    )  # text, own and control tokens, and such that share the row that is never written
    _, rows = model.vocabulary.rows(first, last)
    ours = hidden @ rows.bfloat16().float().T
    assert ours.std() > 0.05
    torch.testing.assert_close(ours, theirs[:, first:last], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_neither_padding_nor_company_nor_a_shared_prefix_changes_anything(model: DemoModel) -> None:
    short, long = PROMPT[:150], PROMPT[:140] + PROMPT[20:80]
    group = Group(shared=140, length=60, members=[0, 1])
    tokens = PROMPT[:140] + short[140:] + [PAD] * 50 + long[140:]
    states, _ = model(torch.tensor([*PROMPT[:30], *tokens, *[PAD] * 7]), [Group(0, 30, [2]), group])
    first, second = states[30 + 140 :][:60], states[30 + 140 + 60 :][:60]
    torch.testing.assert_close(first[:10], _states(model, short)[140:], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(second, _states(model, long)[140:], atol=1e-5, rtol=1e-5)


def _states(model: DemoModel, ids: list[int]) -> torch.Tensor:
    """Of one sequence: [positions, hidden]."""
    states: torch.Tensor = model(torch.tensor(ids), [Group(0, len(ids), [0])])[0]
    return states


def test_the_engine_continues_as_transformers_does(exported: Path) -> None:
    expected = oracle.greedy(oracle.load(exported), PROMPT, 12)
    settings = EngineSettings(max_context=1024, kv_cache_gib=0.05, threads=1, dtype="float32")
    engine = NativeEngine.from_settings(settings, exported)
    try:
        call = Call(engine, PROMPT, max_tokens=12, ignore_eos=True)
        call.end()
    finally:
        engine.close()
    assert call.tokens == expected


def test_a_model_that_is_restored_is_the_one_that_was_kept(model: DemoModel) -> None:
    kept = compact(model)
    other = DemoModel(SMALL, OWN)
    assert any(not torch.equal(tensor, kept[name]) for name, tensor in compact(other).items())
    restore(other, kept)
    again = compact(other)
    assert again.keys() == kept.keys()
    for name, tensor in kept.items():
        assert torch.equal(again[name], tensor), name


def test_what_stands_at_the_target_is_not_touched(model: DemoModel, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    with pytest.raises(FileExistsError):
        write_checkpoint(compact(model), SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
