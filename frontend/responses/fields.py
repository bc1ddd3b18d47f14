"""Every field of a request to `/v1/responses` and what becomes of it; see `field_policy`."""

from __future__ import annotations

from typing import Any

from frontend.field_policy import Field, honoured, ignored, refused

_Object = dict[str, Any]

FIELDS: dict[str, Field] = {
    # OpenAI's
    "model": honoured("one of GET /v1/models"),
    "input": honoured("a text, or items: messages, reasoning, function calls and their outputs, and "
                      "references to items of stored responses; text only"),
    "instructions": honoured("before the input; not carried over by previous_response_id"),
    "previous_response_id": honoured("the conversation so far, while this server still holds it"),
    "store": honoured("true keeps the response in this server's memory, bounded, until a day after its last use (stored_responses_ttl_s)"),
    "stream": honoured("server-sent events"),
    "stream_options": honoured("include_obfuscation is ignored"),
    "tools": honoured("up to 128 functions; those that say `strict: true` get arguments by their schema; OpenAI's own tools are refused"),
    "tool_choice": honoured("auto, none, required, one function, or allowed_tools; enforced while sampling"),
    "parallel_tool_calls": honoured("gpt-oss makes one call at a time, and false enforces that"),
    "text": honoured("format text, json_object or json_schema, enforced in the answer; verbosity medium"),
    "reasoning": honoured("effort: none, minimal and low are low; high, xhigh and max are high. summary is ignored: "
                          "the reasoning itself is given"),
    "max_output_tokens": honoured("reasoning included"),
    "temperature": honoured("0 is greedy"),
    "top_p": honoured("0 to 1"),
    "top_logprobs": honoured("0 to 20; given with include message.output_text.logprobs"),
    "include": honoured("message.output_text.logprobs; the other values name what never occurs here"),
    "metadata": honoured("up to 16 pairs, given back"),
    "prompt_cache_key": honoured("names the session, whose KV blocks are kept for its next turn"),
    "service_tier": honoured("flex takes the lowest class, which has the smallest share; any other tier is the priority of the API key"),
    "truncation": honoured("auto leaves out the oldest turns of what does not fit the context; disabled, the default, "
                           "makes it an error"),
    "background": refused(bool, "a response is made while its caller waits", False),
    "background_options": refused(_Object, "a response is made while its caller waits", {}),
    "conversation": refused(str | _Object, "conversations are not stored; use previous_response_id"),
    "prompt": refused(_Object, "no prompt templates are stored"),
    "context_management": refused(list[Any], "nothing is compacted", []),
    "moderation": refused(_Object, "there is no moderation model"),
    "access_programs": refused(_Object, "there are none", {}),
    "image": ignored(_Object, "there are no images to treat"),
    "max_tool_calls": ignored(int, "it limits OpenAI's own tools, which are not served"),
    "prompt_cache_options": ignored(_Object, "prefixes are kept while there is room"),
    "prompt_cache_retention": ignored(str, "prefixes are kept while there is room"),
    "safety_identifier": ignored(str, "users are not tracked"),
    "user": ignored(str, "users are not tracked"),
    # ours, with the names that other open servers use
    "seed": honoured("a whole number"),
    "top_k": honoured("0 is off"),
    "min_p": honoured("0 to 1"),
    "repetition_penalty": honoured("1 is off"),
}  # fmt: skip
