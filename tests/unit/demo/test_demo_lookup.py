"""The look for the word that a function's name begins with."""

from __future__ import annotations

import pytest
import torch

from gpt_oss_triton.demo.batches import Group
from gpt_oss_triton.demo.corpus import episode, sample_of
from gpt_oss_triton.demo.induction import induce
from gpt_oss_triton.demo.lookup import _names, put_in, reads
from gpt_oss_triton.demo.model import DemoModel
from gpt_oss_triton.demo.packed import unpack
from gpt_oss_triton.demo.shape import DEMO_SHAPE
from gpt_oss_triton.demo.training import Plan, Training
from gpt_oss_triton.harmony.tokens import encode_text

OPENING = encode_text("It is about")


@pytest.fixture(scope="module")
def model() -> DemoModel:
    """One that can copy, with the look."""
    torch.manual_seed(1)
    model = DemoModel(DEMO_SHAPE, own=encode_text(" ".join(map(str, range(100))))).eval()
    induce(model)
    put_in(model, seed=1, samples=400)
    return model


@pytest.fixture(scope="module")
def committed() -> DemoModel:
    tensors, shape = unpack()
    plan = Plan(looks=True)
    return Training.begin_with(tensors, shape, plan, torch.device("cpu")).model.eval()


def _added(model: DemoModel, ids: list[int]) -> torch.Tensor:
    """What the second layer's attention adds: [positions, hidden]."""
    found: list[torch.Tensor] = []
    hook = model.attentions[1].register_forward_hook(lambda _, __, added: found.append(added.float()))
    with torch.no_grad():
        model.residual(torch.tensor(ids), [Group(0, len(ids), [0])], layers=2)
    hook.remove()
    return found[0]


# A model without training attends to all words alike, and its experts add noise: some are missed.
@pytest.mark.parametrize(("trained", "share"), [("model", 0.6), ("committed", 0.95)])
def test_it_finds_the_first_word_of_a_name_that_ends_with_the_thing(
    trained: str, share: float, request: pytest.FixtureRequest
) -> None:
    model: DemoModel = request.getfixturevalue(trained)
    codes = torch.unique(model.vocabulary.codes, dim=0).float()  # of all words
    right = looked = 0
    for index in range(400):
        made = episode(5, index, "held")
        if made.kind != "call" or len(made.turns) > 1 or len(made.tools) < 2:
            continue
        call = made.turns[0].calls[0]
        thing, *first = call.analysis.partition(":")[0].removeprefix("It is about ").split()
        if not first or len(encode_text(f"_{thing}")) > 1:
            continue
        ids = sample_of(made).ids
        spoken = OPENING[-2:] + encode_text(f" {thing}")
        place = next(place for place in range(len(ids)) if ids[place : place + 3] == spoken) + 2
        found = _added(model, ids)[place] @ model.vocabulary.code_basis.detach().t()
        said = model.vocabulary.codes[ids[place + 1]].float()
        looked += 1
        right += bool(torch.equal(codes[(codes @ found).argmax()], said))
    assert looked >= 10
    assert right >= share * looked


def test_elsewhere_it_adds_next_to_nothing(committed: DemoModel) -> None:
    loud = committed.vocabulary.code_basis[0].norm() * 4
    looked = conversations = noisy = 0
    for index in range(300):
        made = episode(5, index, "held")
        if len(made.tools) < 2 or len(made.turns) > 1:
            continue
        ids = sample_of(made).ids
        added = _added(committed, ids).norm(dim=1)
        behind = [place for place in range(2, len(ids)) if ids[place - 2 : place] == OPENING[-2:]]
        looked += len(behind)
        added[behind] = 0.0
        conversations += 1
        noisy += float(added.quantile(0.98)) >= 0.1 * loud  # at more than a word or two of what users say
    assert looked > 20
    assert noisy <= conversations / 50, "a chance likeness, of a digit for example"


def test_a_parameter_called_type_begins_no_name() -> None:
    text = (
        "type: string,\n}) => any;\n\ntype cancel_old_ticket = (_: {\ntype: string,\n}) => any;\n\n3 + 4 = 7"
    )
    ids = torch.tensor(encode_text(text))
    assert [ids[first : behind + 1].tolist() for first, behind in _names(ids).t().tolist()] == [
        encode_text(" cancel_old_ticket =")
    ]


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
