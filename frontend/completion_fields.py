"""Every field of a request to `/v1/completions` and what becomes of it; see `field_policy`."""

from __future__ import annotations

from frontend.field_policy import Field, honoured, ignored, refused

FIELDS: dict[str, Field] = {
    # OpenAI's
    "model": honoured("one of GET /v1/models"),
    "prompt": honoured("a text, token ids, or a list of either; control tokens written out in a text count as such"),
    "echo": honoured("the prompt's text comes before the answer's; not together with logprobs"),
    "logprobs": honoured("0 to 5 of the likeliest tokens, in the legacy form"),
    "max_tokens": honoured("16 where nothing is said"),
    "n": honoured("answers to each prompt; 128 in all"),
    "stream": honoured("server-sent events"),
    "stream_options": honoured("include_usage; include_obfuscation is ignored"),
    "temperature": honoured("0 is greedy"),
    "top_p": honoured("0 to 1"),
    "frequency_penalty": honoured("-2 to 2"),
    "presence_penalty": honoured("-2 to 2"),
    "logit_bias": honoured("token id to -100 … 100"),
    "seed": honoured("a whole number; the answers of one request take the numbers that follow it"),
    "stop": honoured("up to 16 strings, matched anywhere in the text"),
    "best_of": honoured("must be n: no answers are made to be thrown away"),
    "suffix": refused(str, "the model was not trained to fill in the middle", ""),
    "user": ignored(str, "users are not tracked"),
    # ours, with the names that other open servers use
    "top_k": honoured("0 is off"),
    "min_p": honoured("0 to 1"),
    "repetition_penalty": honoured("1 is off"),
    "stop_token_ids": honoured("beside the model's own end tokens"),
    "ignore_eos": honoured("go on to the token limit; for benchmarks"),
    "skip_special_tokens": honoured("true, the default, leaves control tokens out of the text; false writes them out"),
    "add_special_tokens": ignored(bool, "the vocabulary has none that a text begins with"),
    "service_tier": honoured("flex takes the lowest class, which has the smallest share; any other tier is the priority of the API key"),
    "return_token_ids": honoured("the answer's token ids, as `token_ids` of the choice that ends it"),
}  # fmt: skip
