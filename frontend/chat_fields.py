"""Every field of a chat request and what becomes of it: the one table that decides and documents.

A field is *honoured* (its type and meaning are in `chat_request.ChatRequest`), *ignored* because it cannot
change the answer, or *refused* because it would and is not served. Values that ask for nothing (`neutral`)
are accepted everywhere, and so is null. A field that is not in the table is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter


@dataclass(frozen=True, slots=True)
class Field:
    """One row.

    Attributes:
        kind: type of an ignored or refused field's value.
        neutral: values of a refused field that ask for nothing.
        why: for the reader of the documentation.
    """

    treatment: Literal["honoured", "ignored", "refused"]
    why: str
    kind: Any = Any
    neutral: tuple[Any, ...] = ()


def _honoured(why: str) -> Field:
    return Field("honoured", why)


def _ignored(kind: Any, why: str) -> Field:
    return Field("ignored", why, kind)


def _refused(kind: Any, why: str, *neutral: Any) -> Field:
    return Field("refused", why, kind, neutral)


_Object = dict[str, Any]

FIELDS: dict[str, Field] = {
    # OpenAI's
    "model": _honoured("one of GET /v1/models"),
    "messages": _honoured("roles system, developer, user, assistant; text only"),
    "stream": _honoured("server-sent events"),
    "stream_options": _honoured("include_usage; include_obfuscation is ignored"),
    "max_tokens": _honoured("older name of max_completion_tokens"),
    "max_completion_tokens": _honoured("reasoning included"),
    "reasoning_effort": _honoured("none, minimal and low are low; high, xhigh and max are high"),
    "temperature": _honoured("0 is greedy"),
    "top_p": _honoured("0 to 1"),
    "frequency_penalty": _honoured("-2 to 2"),
    "presence_penalty": _honoured("-2 to 2"),
    "logit_bias": _honoured("token id to -100 … 100"),
    "seed": _honoured("0 or more"),
    "prompt_cache_key": _honoured("names the session, whose KV blocks are kept for its next turn"),
    "service_tier": _honoured("flex waits behind all others; any other tier is the priority of the API key"),
    "stop": _honoured("up to 16 strings, matched in the answer and never in the reasoning"),
    "audio": _refused(_Object, "text only"),
    "function_call": _refused(str | _Object, "no tools yet", "none", "auto"),
    "functions": _refused(list[Any], "no tools yet", []),
    "logprobs": _refused(bool, "not computed", False),
    "metadata": _ignored(dict[str, str], "nothing is stored"),
    "modalities": _refused(list[str], "text only", ["text"]),
    "n": _refused(int, "one answer to a request", 1),
    "parallel_tool_calls": _ignored(bool, "no tools, so no calls"),
    "prediction": _refused(_Object, "no speculation from a predicted text"),
    "prompt_cache_retention": _ignored(str, "prefixes are kept while there is room"),
    "response_format": _refused(_Object, "free text only", {"type": "text"}),
    "safety_identifier": _ignored(str, "users are not tracked"),
    "store": _refused(bool, "nothing is stored", False),
    "tool_choice": _refused(str | _Object, "no tools yet", "none", "auto"),
    "tools": _refused(list[Any], "no tools yet", []),
    "top_logprobs": _refused(int, "not computed", 0),
    "user": _ignored(str, "users are not tracked"),
    "verbosity": _refused(str, "gpt-oss was not trained for it", "medium"),
    "web_search_options": _refused(_Object, "no search"),
    # ours, with the names that other open servers use
    "top_k": _honoured("0 is off"),
    "min_p": _honoured("0 to 1"),
    "repetition_penalty": _honoured("1 is off"),
    "stop_token_ids": _honoured("beside the model's own end tokens"),
    "ignore_eos": _honoured("go on to the token limit; for benchmarks"),
    "include_reasoning": _honoured("false drops the reasoning text; it is still computed and counted"),
    "return_token_ids": _honoured("the answer's token ids, as `token_ids` of the choice that ends it"),
    "chat_template_kwargs": _refused(_Object, "the prompt is harmony, not a template", {}),
}


def honoured(body: dict[str, Any]) -> dict[str, Any]:
    """The honoured fields of a request that are not null.

    Raises:
        InvalidRequest: a field is unknown, or has the wrong type.
        UnsupportedParameter: a refused field asks for something.
    """
    taken: dict[str, Any] = {}
    for name, value in body.items():
        field = FIELDS.get(name)
        if field is None:
            raise InvalidRequest(f"Unknown field: {name[:64]!r}.", param=name[:64])
        if value is None:
            continue
        if field.treatment == "honoured":
            taken[name] = value
            continue
        try:
            msgspec.convert(value, field.kind)
        except msgspec.ValidationError as error:
            message = str(error).partition(" - at ")[0]
            raise InvalidRequest(f"{name}: {message}.", param=name) from None
        if field.treatment == "refused" and value not in field.neutral:
            raise UnsupportedParameter(f"{name} is not supported here: {field.why}.", param=name)
    return taken
