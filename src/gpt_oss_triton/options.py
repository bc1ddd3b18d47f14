"""The ranges of the generation options: checked by the shim before a request leaves, and again by the
engine model, because Triton's own clients come without the shim."""

from __future__ import annotations

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.wire import GenerationOptions

MAX_STOP_STRINGS = 16
MAX_STOP_STRING_CHARS = 256
MAX_STOP_TOKEN_IDS = 64
MAX_LOGIT_BIAS = 1024
MAX_GRAMMAR_CHARS = 2**18
MAX_ID_CHARS = 128  # of a lease's id and of the cache salt
VOCABULARY = 201_088  # gpt-oss's published vocabulary, special tokens and padding included

# field: (lowest, highest), both allowed
_RANGES: dict[str, tuple[float, float]] = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (0, VOCABULARY),
    "min_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "repetition_penalty": (0.01, 10.0),
    "seed": (0, 2**64 - 1),
    "logprobs": (0, 20),
}


def check_options(options: GenerationOptions, vocabulary: int = VOCABULARY) -> None:
    """Refuse what no engine could honour.

    Raises:
        InvalidRequest: `param` names the first field at fault.
    """
    for name, (low, high) in _RANGES.items():
        value = getattr(options, name)
        if value is not None and not low <= value <= high:  # false for NaN as well
            raise InvalidRequest(f"{name} must be between {low} and {high}, got {value}.", param=name)
    for name in ("max_tokens", "most_tokens"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InvalidRequest(f"{name} must be at least 1, got {value}.", param=name)
    _check_stops(options, vocabulary)
    _check_ids(options)
    _check_grammar(options)
    if len(options.logit_bias) > MAX_LOGIT_BIAS:
        raise InvalidRequest(
            f"logit_bias has {len(options.logit_bias)} entries; at most {MAX_LOGIT_BIAS} are allowed.",
            param="logit_bias",
        )
    for token, bias in options.logit_bias.items():
        if not 0 <= token < vocabulary:
            raise InvalidRequest(f"logit_bias: there is no token {token}.", param="logit_bias")
        if not -100 <= bias <= 100:
            raise InvalidRequest(
                f"logit_bias must be between -100 and 100, got {bias} for token {token}.", param="logit_bias"
            )


def _check_ids(options: GenerationOptions) -> None:
    if options.lease is not None and not 1 <= len(options.lease.id) <= MAX_ID_CHARS:
        raise InvalidRequest(
            f"lease.id must have 1 to {MAX_ID_CHARS} characters, got {len(options.lease.id)}.", param="lease"
        )
    if len(options.cache_salt) > MAX_ID_CHARS:
        raise InvalidRequest(
            f"cache_salt must have at most {MAX_ID_CHARS} characters, got {len(options.cache_salt)}.",
            param="cache_salt",
        )


def _check_grammar(options: GenerationOptions) -> None:
    if options.grammar is None:
        return
    if len(options.grammar) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest(
            f"grammar must have at most {MAX_GRAMMAR_CHARS} characters, got {len(options.grammar)}.",
            param="grammar",
        )
    if options.ignore_eos:
        raise InvalidRequest(
            "ignore_eos does not go with a grammar, which says where the answer ends.", param="ignore_eos"
        )


def _check_stops(options: GenerationOptions, vocabulary: int) -> None:
    if len(options.stop) > MAX_STOP_STRINGS:
        raise InvalidRequest(
            f"stop has {len(options.stop)} strings; at most {MAX_STOP_STRINGS} are allowed.", param="stop"
        )
    for text in options.stop:
        if not 1 <= len(text) <= MAX_STOP_STRING_CHARS:
            raise InvalidRequest(
                f"Each stop string must have 1 to {MAX_STOP_STRING_CHARS} characters, got {len(text)}.",
                param="stop",
            )
    if len(options.stop_token_ids) > MAX_STOP_TOKEN_IDS:
        raise InvalidRequest(
            f"stop_token_ids has {len(options.stop_token_ids)} ids; at most {MAX_STOP_TOKEN_IDS} are allowed.",
            param="stop_token_ids",
        )
    for token in options.stop_token_ids:
        if not 0 <= token < vocabulary:
            raise InvalidRequest(f"stop_token_ids: there is no token {token}.", param="stop_token_ids")
