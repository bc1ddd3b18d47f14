"""The tokenizer that others load against the harmony library, and the template against our renderer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from openai_harmony import HarmonyEncodingName, load_harmony_encoding
from transformers import AutoTokenizer

from gpt_oss_triton import config, wire
from gpt_oss_triton.checkpoint import weights
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.wire import Message, PromptRequest

_PIECES = (
    *("ſ", "'S", "'s", "n't", "I'LL", "K", "AbC", "hello", "WORLD", "ǅ", "ʰ", "é", "e\u0301", "ﬁ"),
    *(
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "\u00a0",
        "\u2028",
        "\u3000",
        "\x85",
        "\x1c",
        "\u200b",
        "\x00",
        "\ufeff",
    ),
    *("1234567", "3.14", "٣٤٥", "Ⅷ", "½", "漢字", "かな", "한국어", "ไทย", "हिन्दी", "שלום", "\U0001d400"),
    *("😀", "👩‍👩‍👧", "🇩🇪", "/", "//", "...", "!?", "_", "$", "<|", "|>", "<|start|>", "{}", "==", "->"),
)


@pytest.fixture(scope="module")
def tokenizer(tiny: Callable[[str], Path]) -> Any:
    return AutoTokenizer.from_pretrained(tiny("mxfp4"))


@pytest.fixture(scope="module")
def harmony() -> Any:
    return load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)


def _texts() -> list[str]:
    rng = random.Random(0)
    mixed = ["".join(rng.choices(_PIECES, k=rng.randint(1, 14))) for _ in range(1500)]
    # Any characters but surrogates.
    wild = [
        "".join(map(chr, rng.choices([*range(0xD800), *range(0xE000, 0x20000)], k=20))) for _ in range(300)
    ]
    files = [Path(module.__file__ or "").read_text(encoding="utf-8") for module in (weights, wire, config)]
    return [*mixed, *wild, *files, "", " " * 100, "\n" * 50, "a" * 200]


def test_encodes_as_harmony_does(tokenizer: Any, harmony: Any) -> None:
    for text in _texts():
        expected = harmony.encode(text, allowed_special="all")
        assert tokenizer.encode(text, add_special_tokens=False) == expected, repr(text)
        assert tokenizer.decode(expected) == text


def test_every_token_is_harmonys(tokenizer: Any, harmony: Any) -> None:
    vocabulary = tokenizer.get_vocab()
    assert sorted(vocabulary.values()) == list(range(200_019))
    by_id = {token: text for text, token in vocabulary.items()}
    byte_of = {by_id[token]: harmony._inner.decode_bytes([token]) for token in range(256)}  # one byte each
    assert len(set(byte_of.values())) == 256
    for token in range(199_998):
        assert b"".join(byte_of[c] for c in by_id[token]) == harmony._inner.decode_bytes([token]), token
    for token in range(199_998, 200_018):
        assert by_id[token].encode() == harmony._inner.decode_bytes([token])
    assert by_id[200_018] == "<|endofprompt|>"


def test_special_tokens(tokenizer: Any) -> None:
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (
        199998,
        200002,
        199999,
    )
    names = {
        "<|start|>": 200006,
        "<|end|>": 200007,
        "<|message|>": 200008,
        "<|channel|>": 200005,
        "<|constrain|>": 200003,
        "<|call|>": 200012,
    }
    assert {name: tokenizer.convert_tokens_to_ids(name) for name in names} == names
    assert set(names.values()) <= set(tokenizer.added_tokens_decoder)
    assert tokenizer.decode([200006, 17196, 200012], skip_special_tokens=True) == "final"


@pytest.mark.parametrize(
    "messages",
    [
        [Message("user", "Hello")],
        [Message("system", "Be brief."), Message("user", "Why is the sky blue?\n")],
        [
            Message("system", "One."),
            Message("user", " A ", name="ann"),
            Message("assistant", "B", reasoning="because"),
            Message("developer", "  "),
            Message("developer", "Two.\n\nThree."),
            Message("user", ""),
        ],
        [Message("user", "x"), Message("assistant", "", reasoning="cut short"), Message("user", "go on")],
        [Message("user", "x"), Message("assistant", "")],
    ],
)
@pytest.mark.parametrize("effort", ["low", "medium"])
def test_template_equals_the_renderer(tokenizer: Any, messages: list[Message], effort: Any) -> None:
    plain = [
        {
            key: value
            for key in ("role", "content", "reasoning", "name")
            if (value := getattr(m, key)) is not None
        }
        for m in messages
    ]
    ids = tokenizer.apply_chat_template(
        plain, add_generation_prompt=True, reasoning_effort=effort, return_dict=False
    )
    assert ids == render(PromptRequest(messages, effort)), tokenizer.decode(ids)


def test_template_defaults_and_refusals(tokenizer: Any) -> None:
    text = tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    assert "\n\nReasoning: medium\n\n" in text
    assert text.endswith("<|start|>user<|message|>x<|end|>")
    with pytest.raises(TemplateError, match="role tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}])
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(TemplateError, match="no tools"):
        tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tools=[tool])
