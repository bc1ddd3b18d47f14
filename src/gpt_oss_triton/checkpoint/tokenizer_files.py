"""The tokenizer files of a gpt-oss checkpoint, made from the vocabulary that comes with oss-harmony."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from openai_harmony import HarmonyEncodingName, load_harmony_encoding
from tokenizers import AddedToken, Tokenizer
from transformers.convert_slow_tokenizer import TikTokenConverter

from gpt_oss_triton.checkpoint.json_file import write_json
from gpt_oss_triton.harmony.tokens import FIRST_SPECIAL

_LAST_SPECIAL = 200_018  # the published tokenizer names no later one; ids up to 201,087 are padding
_END_OF_PROMPT = "<|endofprompt|>"  # what the published tokenizer calls 200018; harmony has it as reserved

_WORD_END = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SPLIT = "|".join(  # o200k's, one alternative a line
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{_WORD_END}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{_WORD_END}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


class _HarmonyConverter(TikTokenConverter):  # type: ignore[misc]  # transformers is untyped
    """transformers' conversion of merge ranks to merges, with the ranks from oss-harmony, not from a file."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        decode = load_harmony_encoding(tiktoken_url)._inner.decode_bytes
        return {decode([rank]): rank for rank in range(FIRST_SPECIAL)}


def build_tokenizer() -> Tokenizer:
    """o200k_harmony as a byte-level BPE of the tokenizers library. Takes some seconds."""
    converter = _HarmonyConverter(
        vocab_file=HarmonyEncodingName.HARMONY_GPT_OSS, pattern=_SPLIT, extra_special_tokens=_special_tokens()
    )
    tokenizer: Tokenizer = converter.converted()
    return tokenizer


def write_tokenizer_files(directory: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json, special_tokens_map.json and chat_template.jinja."""
    tokenizer = build_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    roles = {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
    config = {
        "added_tokens_decoder": {
            str(token): _flags(added) for token, added in tokenizer.get_added_tokens_decoder().items()
        },
        **roles,
        "clean_up_tokenization_spaces": False,
        "extra_special_tokens": {},
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 131072,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    write_json(directory / "tokenizer_config.json", config)
    write_json(directory / "special_tokens_map.json", roles)
    template = resources.files(__package__).joinpath("chat_template.jinja").read_text(encoding="utf-8")
    (directory / "chat_template.jinja").write_text(template, encoding="utf-8")


def _special_tokens() -> list[str]:
    decode = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)._inner.decode_bytes
    return [decode([token]).decode() for token in range(FIRST_SPECIAL, _LAST_SPECIAL)] + [_END_OF_PROMPT]


def _flags(added: AddedToken) -> dict[str, object]:
    names = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    return {name: getattr(added, name) for name in names}
