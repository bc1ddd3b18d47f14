"""transformers, which reads the published checkpoints, reads ours, and the model behaves like a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from gpt_oss_triton.harmony.render import render_plain

Tiny = Callable[[str], Path]
# Longer than the sliding window of 128 tokens.
PROMPT = render_plain("The tide was out, and 37 boats lay on the sand like beached whales. " * 12)
HEADER = [200005, 17196, 200008]  # <|channel|>final<|message|>


def _load(directory: Path, **options: Any) -> Any:
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, attn_implementation="eager", output_loading_info=True, **options
    )
    assert not any(info.values()), info  # no tensor missing, unexpected, of another shape or broken
    return model.eval()


@torch.inference_mode()
def _logits(model: Any) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([PROMPT])).logits[0].float()
    return logits


@pytest.mark.parametrize("dtype", ["bf16", "mxfp4", "fp32"])
def test_loads_and_generates(tiny: Tiny, dtype: str) -> None:
    model = _load(tiny(dtype))
    assert model.dtype == (torch.float32 if dtype == "fp32" else torch.bfloat16)
    ids = model.generate(torch.tensor([PROMPT]), max_new_tokens=12, do_sample=False)[0].tolist()
    answer = ids[len(PROMPT) :]
    assert answer[:3] == HEADER
    assert len(answer) == 12
    assert len(set(answer)) == 12  # it does not repeat itself


def test_logits_of_fp32_and_mxfp4_agree(tiny: Tiny) -> None:
    wide = _logits(_load(tiny("fp32")))
    packed = _logits(_load(tiny("mxfp4"), dtype=torch.float32))
    torch.testing.assert_close(packed, wide, atol=1e-4, rtol=1e-4)


def test_logits_of_bf16_are_near(tiny: Tiny) -> None:
    wide, half = _logits(_load(tiny("fp32"))), _logits(_load(tiny("bf16")))
    assert (wide - half).abs().mean() < 0.1
    assert (wide.argmax(-1) == half.argmax(-1)).float().mean() > 0.9


def test_logits_and_router_are_lively(tiny: Tiny) -> None:
    model = _load(tiny("fp32"))
    chosen: list[torch.Tensor] = []
    for layer in model.model.layers:
        layer.mlp.router.register_forward_hook(lambda module, inputs, outputs: chosen.append(outputs[-1]))
    logits = _logits(model)
    assert 2 < logits.std() < 5
    assert logits.abs().max() < 40
    for indices in chosen:
        share = torch.bincount(indices.flatten(), minlength=8) / indices.numel()
        assert share.min() > 0.01
        assert share.max() < 0.4


def test_configuration(tiny: Tiny) -> None:
    config = AutoConfig.from_pretrained(tiny("mxfp4"))
    assert config.layer_types == ["sliding_attention", "full_attention"] * 2
    assert (config.sliding_window, config.vocab_size, config.num_experts_per_tok) == (128, 201088, 4)
    rope = config.rope_parameters
    assert (rope["rope_theta"], rope["rope_type"], rope["factor"]) == (150000, "yarn", 32)
    assert (rope["beta_fast"], rope["beta_slow"], rope["truncate"]) == (32, 1, False)
    assert rope["original_max_position_embeddings"] == 4096
    assert config.quantization_config["quant_method"] == "mxfp4"
    assert not hasattr(AutoConfig.from_pretrained(tiny("bf16")), "quantization_config")
    generation = GenerationConfig.from_pretrained(tiny("mxfp4"))
    assert generation.eos_token_id == [200002, 199999, 200012]
    assert (generation.bos_token_id, generation.pad_token_id, generation.do_sample) == (199998, 199999, True)
