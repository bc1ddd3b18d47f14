"""How a model is laid over devices: which mode, and which part goes where."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from gpt_oss_triton.checkpoint.shapes import SHAPES
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel import plan
from gpt_oss_triton.engine.parallel.plan import choose_plan, model_bytes, stages
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.kernels import operations

CPU, GPU, BF16 = torch.device("cpu"), torch.device("cuda"), torch.bfloat16


@pytest.fixture
def config(checkpoint):
    """By shape: the published models' sizes without their weights."""
    tiny = ModelConfig.from_checkpoint(checkpoint("mxfp4"))

    def make(name, **changes):
        shape = dataclasses.asdict(SHAPES[name])
        return dataclasses.replace(
            tiny, **shape, is_sliding=(True, False) * (shape["layers"] // 2), **changes
        )

    return make


@pytest.fixture
def gpus(monkeypatch):
    """`gpus(2, 80)`: so many of so many 10^9 free bytes, with our kernels or without."""

    def have(count, gigabytes, capability=(9, 0)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(gigabytes * 1e9),) * 2)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(operations, "_why_triton_cannot", lambda: None)

    return have


def test_sizes_are_those_of_the_published_models(config, gpus):
    gpus(1, 80)
    assert model_bytes(config("20b"), BF16, GPU) == pytest.approx(13.8e9, rel=0.01)
    assert model_bytes(config("120b"), BF16, GPU) == pytest.approx(65.2e9, rel=0.01)
    gpus(1, 80, capability=(7, 5))
    assert model_bytes(config("20b"), torch.float16, GPU) == pytest.approx(41.8e9, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "count", "gigabytes", "mode", "why"),
    [
        ("20b", 1, 24, "single", "one device"),
        ("120b", 1, 24, "single", "one device"),
        ("20b", 4, 24, "single", "13.7 GB"),
        ("120b", 1, 80, "single", "one device"),
        ("120b", 2, 70, "tensor", "divide by 2"),
        ("120b", 3, 40, "pipeline", "do not divide by 3"),
    ],
)
def test_auto(config, gpus, shape, count, gigabytes, mode, why):
    gpus(count, gigabytes)
    chosen = choose_plan(EngineSettings(), config(shape), GPU, BF16)
    assert (chosen.mode, chosen.ranks) == (mode, 1 if mode == "single" else count)
    assert why in chosen.reason


def test_auto_leaves_a_cpu_and_a_named_gpu_alone(config, gpus):
    gpus(4, 24)
    several = EngineSettings(parallel_ranks=2)
    assert choose_plan(several, config("120b"), CPU, BF16).mode == "single"
    assert choose_plan(EngineSettings(), config("120b"), torch.device("cuda:1"), BF16).mode == "single"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"gpu_mode": "tensor"}, "equal shares"),
        ({"parallel_ranks": 5}, "there are 3 GPUs"),
        ({"gpu_mode": "pipeline", "parallel_ranks": 1}, "two devices at least"),
    ],
)
def test_what_does_not_suit_is_refused(config, gpus, settings, words):
    gpus(3, 80)
    with pytest.raises(ConfigurationError, match=words):
        choose_plan(EngineSettings(**settings), config("20b"), GPU, BF16)


@pytest.mark.parametrize("shape", ["tiny", "20b", "120b"])
@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_stages_hold_every_layer_once_and_none_is_larger_than_it_must_be(config, shape, ranks):
    model = config(shape)
    parts = stages(model, BF16, CPU, ranks)
    assert [n for part in parts for n in range(part.first, part.last)] == list(range(model.layers))
    assert all(part.first < part.last for part in parts)
    assert [part.ends for part in parts] == [True, *[False] * (ranks - 1)]
    ends = plan.ends_bytes(model, BF16) / plan.layer_bytes(model, BF16, CPU)

    def largest(counts):
        return max(counts[0] + ends, *counts[1:])

    counts = [part.last - part.first for part in parts]
    # Moving one layer between the first stage and the others makes nothing smaller.
    for first in (counts[0] - 1, counts[0] + 1):
        if 0 < first <= model.layers - ranks + 1:
            rest = -(-(model.layers - first) // (ranks - 1))
            assert largest([first, rest]) >= largest(counts)
