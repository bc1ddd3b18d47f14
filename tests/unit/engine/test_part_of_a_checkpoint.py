"""A rank reads its part of the checkpoint and nothing else."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.part import Part
from gpt_oss_triton.engine.weights import Checkpoint, WeightLoader

CPU = torch.device("cpu")


def tensors(layer):
    """By name; packed matrices as their two tensors."""
    found = {name: getattr(layer, name) for name in layer.__slots__ if name != "experts"}
    for name in layer.experts.__slots__:
        value = getattr(layer.experts, name)
        if isinstance(value, torch.Tensor):
            found[name] = value
        elif hasattr(value, "blocks"):
            found |= {f"{name}.blocks": value.blocks, f"{name}.scales": value.scales}
    return found


@pytest.mark.parametrize("weights", ["fp32", "mxfp4"])
def test_the_shares_of_a_layer_make_the_layer(checkpoint, weights):
    directory = checkpoint(weights)
    config = ModelConfig.from_checkpoint(directory)
    whole = WeightLoader(directory, config, torch.float32, CPU).load()
    parts = [Part(0, config.layers, share=n, shares=2) for n in range(2)]
    shares = [WeightLoader(directory, config, torch.float32, CPU, part).load() for part in parts]
    assert torch.equal(torch.cat([share.embedding for share in shares]), whole.embedding)
    assert torch.equal(torch.cat([share.head for share in shares]), whole.head)
    heads, kv = config.heads * config.head_dim, config.kv_heads * config.head_dim
    for layer, *own in zip(whole.layers, *(share.layers for share in shares), strict=True):
        for name, want in tensors(layer).items():
            got = [tensors(share)[name] for share in own]
            if name in ("attention_norm", "mlp_norm", "router", "router_bias"):
                assert all(torch.equal(one, want) for one in got)
            elif name == "out_bias":  # added once
                assert torch.equal(got[0], want)
                assert not got[1].any()
            elif name == "out":
                assert torch.equal(torch.cat(got, dim=1), want)
            elif name.startswith("qkv"):
                split = [one.split([heads // 2, kv // 2, kv // 2]) for one in got]
                assert torch.equal(torch.cat([torch.cat(rows) for rows in zip(*split, strict=True)]), want)
            else:
                assert torch.equal(torch.cat(got), want), name
        assert [share.experts.first for share in own] == [0, config.experts // 2]


def test_a_stage_opens_no_file_of_other_layers(checkpoint, tmp_path):
    """Each layer in a file of its own, and those of the others unreadable."""
    directory = tmp_path / "split"
    shutil.copytree(checkpoint("fp32"), directory)
    everything = load_file(directory / "model.safetensors")
    (directory / "model.safetensors").unlink()
    files = {
        name: f"{name.split('.')[2] if '.layers.' in name else 'ends'}.safetensors" for name in everything
    }
    for file in set(files.values()):
        save_file({name: t for name, t in everything.items() if files[name] == file}, directory / file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    for file in ("ends", "0", "3"):
        (directory / f"{file}.safetensors").write_bytes(b"junk")
    config = ModelConfig.from_checkpoint(directory)
    layers = WeightLoader(directory, config, torch.float32, CPU, Part(1, 3, ends=False)).layers()
    assert torch.equal(layers[0].router, everything["model.layers.1.mlp.router.weight"])
    assert torch.equal(layers[1].router, everything["model.layers.2.mlp.router.weight"])


def test_a_share_asks_the_file_for_its_rows(checkpoint, monkeypatch):
    directory = checkpoint("mxfp4")
    config = ModelConfig.from_checkpoint(directory)
    read = {}
    tensor = Checkpoint.tensor

    def noted(self, name, shape, cut=()):
        read[name] = tensor(self, name, shape, cut)
        return read[name]

    monkeypatch.setattr(Checkpoint, "tensor", noted)
    sizes = []
    for shares in (1, 2):
        part = Part(0, config.layers, share=shares - 1, shares=shares)
        WeightLoader(directory, config, torch.bfloat16, CPU, part).load()
        sizes.append(
            sum(found.nbytes for name, found in read.items() if "norm" not in name and "router" not in name)
        )
    assert sizes[1] == pytest.approx(sizes[0] / 2, rel=1e-4)  # but for the bias of what leaves attention
