"""The names that spans use. OpenTelemetry's conventions for generative AI still move: they move here."""

from __future__ import annotations

# Routes whose requests are answered by a model: the names of their spans, and of what the model does.
ROOT_SPANS = {
    "/v1/chat/completions": "chat_completion",
    "/v1/completions": "completion",
    "/v1/responses": "response",
}
OPERATIONS = dict.fromkeys(ROOT_SPANS, "chat") | {"/v1/completions": "text_completion"}

OPERATION_NAME = "gen_ai.operation.name"
PROVIDER_NAME = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
CONVERSATION_ID = "gen_ai.conversation.id"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"

HTTP_METHOD = "http.request.method"
HTTP_ROUTE = "http.route"
HTTP_STATUS = "http.response.status_code"
ERROR_TYPE = "error.type"

# Ours
PROVIDER = "gpt_oss_triton"
REQUEST_ID = "gpt_oss.request_id"
PRIORITY = "gpt_oss.priority"
ADMISSION = "gpt_oss.admission"
PRICED_BLOCKS = "gpt_oss.admission.blocks"
TARGET = "gpt_oss.target"
ROUTING_REASON = "gpt_oss.routing.reason"
ATTEMPT = "gpt_oss.attempt"
CACHE_HIT = "gpt_oss.cache_hit"
PROMPT_CACHE = "gpt_oss.prompt_cache"
PROMPT_CACHE_REASON = "gpt_oss.prompt_cache.reason"
PROMPT_VERSION = "gpt_oss.prompt_version"
PREEMPTIONS = "gpt_oss.preemptions"
BLOCKS = "gpt_oss.kv_blocks"
WITH_QUEUE = "gpt_oss.queue_included"
CANCEL_PHASE = "gpt_oss.cancel_phase"
RESPONSE_CACHE = "gpt_oss.response_cache"


def generation_span(path: str, model: str) -> str:
    """The name of the span of one model's work."""
    return f"{OPERATIONS[path]} {model}"
