"""The look for the word that stands before another one in a function's name."""

from __future__ import annotations

import re

import pytest
import torch

from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.corpus import Sample, episode, sample_of
from gpt_oss_triton.demo.induction import induce
from gpt_oss_triton.demo.lookup import _following, put_in, reads
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.demo.shape import DEMO_SHAPE
from gpt_oss_triton.harmony.tokens import encode_text

OPENING = encode_text("It is about")


@pytest.fixture(scope="module")
def model() -> DemoModel:
    """One that can copy, with the look."""
    torch.manual_seed(1)
    model = DemoModel(DEMO_SHAPE, own=encode_text(" ".join(map(str, range(100))))).eval()
    induce(model)
    put_in(model, seed=1, samples=300)
    return model


def _added(model: DemoModel, ids: list[int]) -> torch.Tensor:
    """What the second layer's attention adds: [positions, hidden]."""
    found: list[torch.Tensor] = []
    hook = model.attentions[1].register_forward_hook(lambda _, __, added: found.append(added.float()))
    with torch.no_grad():
        model(torch.tensor(ids), [Group(0, len(ids), [0])])
    hook.remove()
    return found[0]


def test_it_finds_what_stands_before_a_word_in_a_name(model: DemoModel) -> None:
    right = looked = 0
    for index in range(400):
        made = episode(5, index, "held")
        if made.kind != "call" or len(made.turns) > 1 or len(made.tools) < 2:
            continue
        call = made.turns[0].calls[0]
        thing, *before = call.analysis.partition(":")[0].removeprefix("It is about ").split()
        if not before or f"_{thing}" not in call.name or len(encode_text(f"_{thing}")) > 1:
            continue
        ids = sample_of(made).ids
        spoken = OPENING[-2:] + encode_text(f" {thing}")
        place = next(place for place in range(len(ids)) if ids[place : place + 3] == spoken) + 2
        verbs = {re.split("_|(?=[A-Z])", tool.name)[0] for tool in made.tools} | {before[0]}
        codes = {verb: model.vocabulary.codes[encode_text(f" {verb}")[0]].float() for verb in verbs}
        found = _added(model, ids)[place] @ model.vocabulary.code_basis.detach().t()
        looked += 1
        right += max(codes, key=lambda verb: float(codes[verb] @ found)) == before[0]
    assert looked >= 10
    assert right >= 0.9 * looked


def test_elsewhere_it_adds_next_to_nothing(model: DemoModel) -> None:
    made = next(one for index in range(400) if len((one := episode(5, index, "held")).tools) > 2)
    ids = sample_of(made).ids
    loud = model.vocabulary.code_basis[0].norm() * 4
    added = _added(model, ids).norm(dim=1)
    behind = [place for place in range(2, len(ids)) if ids[place - 2 : place] == OPENING[-2:]]
    added[behind] = 0.0
    assert float(added.quantile(0.98)) < 0.1 * loud


def test_a_parameter_called_type_begins_no_name() -> None:
    text = "type: string,\n}) => any;\n\ntype cancel_old_ticket = (_: {\ntype: string,\n}"
    ids = encode_text(text)
    flagged = [ids[place] for place, flag in enumerate(_following(Sample(ids, [False] * len(ids)))) if flag]
    assert flagged == encode_text(" cancel_old_ticket")[1:]


def test_it_says_what_it_reads(model: DemoModel) -> None:
    kept = {id(parameter) for parameter in reads(model)}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in kept}
    assert {
        "vocabulary.code",
        "vocabulary.own_in",
        "attentions.0.qkv",
        "attentions.1.qkv",
        "mixtures.0.down",
    } <= names
    assert not any(name.startswith(("attentions.2.", "mixtures.1.", "vocabulary.own_out")) for name in names)
