"""Every field of a chat request and what becomes of it: the table that decides and documents."""

from __future__ import annotations

from typing import Any

from frontend.field_policy import Field, honoured, ignored, refused

_Object = dict[str, Any]

FIELDS: dict[str, Field] = {
    # OpenAI's
    "model": honoured("one of GET /v1/models"),
    "messages": honoured("roles system, developer, user, assistant and tool; text only"),
    "stream": honoured("server-sent events"),
    "stream_options": honoured("include_usage; include_obfuscation is ignored"),
    "max_tokens": honoured("older name of max_completion_tokens"),
    "max_completion_tokens": honoured("reasoning included"),
    "reasoning_effort": honoured("none, minimal and low are low; high, xhigh and max are high"),
    "temperature": honoured("0 is greedy"),
    "top_p": honoured("0 to 1"),
    "frequency_penalty": honoured("-2 to 2"),
    "presence_penalty": honoured("-2 to 2"),
    "logit_bias": honoured("token id to -100 … 100"),
    "logprobs": honoured("of the content's tokens; none of reasoning and calls"),
    "top_logprobs": honoured("0 to 20; needs logprobs"),
    "n": honoured("1 to 8 answers to one prompt, which is computed and counted once"),
    "seed": honoured("a whole number; with n, the first answer's, and one more for each further one"),
    "prompt_cache_key": honoured("names the session, whose KV blocks are kept for its next turn"),
    "service_tier": honoured(
        "flex takes the lowest class, which has the smallest share; any other tier is the priority of the API key"
    ),
    "stop": honoured("up to 16 strings, matched in the answer and never in the reasoning"),
    "tools": honoured("up to 128 functions; strict ones get arguments by their schema"),
    "tool_choice": honoured("auto, none, required, one function, or allowed_tools; enforced while sampling"),
    "parallel_tool_calls": honoured("gpt-oss makes one call at a time, and false enforces that"),
    "response_format": honoured(
        "text, json_object or json_schema; enforced in the answer, never in the reasoning"
    ),
    "audio": refused(_Object, "text only"),
    "function_call": refused(str | _Object, "deprecated by OpenAI; use tool_choice", "none", "auto"),
    "functions": refused(list[Any], "deprecated by OpenAI; use tools", []),
    "metadata": ignored(dict[str, str], "nothing is stored"),
    "modalities": refused(list[str], "text only", ["text"]),
    "prediction": ignored(_Object, "makes an answer faster elsewhere, and never another one"),
    "moderation": refused(_Object, "there is no moderation model"),
    "prompt_cache_options": ignored(_Object, "prefixes are kept while there is room"),
    "prompt_cache_retention": ignored(str, "prefixes are kept while there is room"),
    "safety_identifier": ignored(str, "users are not tracked"),
    "store": ignored(bool, "nothing is stored"),
    "user": ignored(str, "users are not tracked"),
    "verbosity": refused(str, "gpt-oss was not trained for it", "medium"),
    "web_search_options": refused(_Object, "no search"),
    # ours, with the names that other open servers use
    "top_k": honoured("0 is off"),
    "min_p": honoured("0 to 1"),
    "repetition_penalty": honoured("1 is off"),
    "stop_token_ids": honoured("beside the model's own end tokens"),
    "ignore_eos": honoured("go on to the token limit; for benchmarks"),
    "include_reasoning": honoured("false drops the reasoning text; it is still computed and counted"),
    "return_token_ids": honoured("the answer's token ids, as `token_ids` of the choice that ends it"),
    "chat_template_kwargs": refused(_Object, "the prompt is harmony, not a template", {}),
}
