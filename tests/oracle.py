"""transformers' eager gpt-oss, which says what the right tokens are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM


def load(directory: Path, dtype: torch.dtype = torch.float32) -> Any:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()


def greedy(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """The `tokens` ids that follow `prompt`, end tokens included."""
    ids = torch.tensor([prompt])
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=199_999,
    )
    result: list[int] = out[0, len(prompt) :].tolist()
    return result
