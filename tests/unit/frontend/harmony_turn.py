"""Token ids of an assistant turn, as a model writes it after `<|start|>assistant`."""

from __future__ import annotations

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.tokens import encode_text


def turn(reasoning: str, content: str) -> list[int]:
    return [
        tokens.CHANNEL, *encode_text("analysis"), tokens.MESSAGE, *encode_text(reasoning), tokens.END,
        tokens.START, *encode_text("assistant"), tokens.CHANNEL, *encode_text("final"), tokens.MESSAGE,
        *encode_text(content), tokens.RETURN,
    ]  # fmt: skip
