"""Token ids of an assistant turn, as a model writes it after `<|start|>assistant`."""

from __future__ import annotations

from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.harmony.tokens import encode_text

NEXT = [tokens.END, tokens.START, *encode_text("assistant")]


def turn(reasoning: str, content: str) -> list[int]:
    return [*thought(reasoning), *NEXT, *final(content)]


def thought(text: str) -> list[int]:
    return [tokens.CHANNEL, *encode_text("analysis"), tokens.MESSAGE, *encode_text(text)]


def preamble(text: str) -> list[int]:
    return [tokens.CHANNEL, *encode_text("commentary"), tokens.MESSAGE, *encode_text(text)]


def final(text: str) -> list[int]:
    return [tokens.CHANNEL, *encode_text("final"), tokens.MESSAGE, *encode_text(text), tokens.RETURN]


def call(name: str, arguments: str, *, closed: bool = True) -> list[int]:
    return [
        tokens.CHANNEL, *encode_text(f"commentary to=functions.{name} "), tokens.CONSTRAIN, *encode_text("json"),
        tokens.MESSAGE, *encode_text(arguments), *([tokens.CALL] if closed else []),
    ]  # fmt: skip
