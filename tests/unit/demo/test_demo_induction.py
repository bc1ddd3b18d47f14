"""What a model can do before it has learned anything."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.induction import induce
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.demo.shape import DEMO_SHAPE

WORDS = 24


def _right_when_repeated(model: DemoModel) -> int:
    """How many of random words' repetitions are what the model finds likeliest, of all words that it can write."""
    words = model.vocabulary.rare[torch.randint(len(model.vocabulary.rare), (WORDS,))]
    with torch.no_grad():
        hidden, _ = model(torch.cat((words, words)), [Group(0, 2 * WORDS, [0])])
        rows = model.vocabulary.written(model.vocabulary.rare).to(hidden.dtype)
        best = F.linear(hidden[WORDS:-1], rows).argmax(-1)
    return int((model.vocabulary.rare[best] == words[1:]).sum())


def test_it_goes_on_as_it_did_the_last_time() -> None:
    torch.manual_seed(1)
    model = DemoModel(DEMO_SHAPE, own=range(100)).eval()
    before = _right_when_repeated(model)
    induce(model)
    assert before <= 1, "one in 195,000 by chance"
    assert _right_when_repeated(model) >= WORDS // 3
