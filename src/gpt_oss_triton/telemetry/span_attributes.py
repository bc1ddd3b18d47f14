"""What each span of a request says, under the names of `genai.py`. Counts, ids and codes, never text."""

from __future__ import annotations

from typing import Any

from gpt_oss_triton.telemetry import genai
from gpt_oss_triton.telemetry.record import Attempt, RequestRecord
from gpt_oss_triton.wire import PromptInfo

Attributes = dict[str, Any]


def of_request(record: RequestRecord) -> Attributes:
    return _known(
        {
            genai.HTTP_METHOD: record.method,
            genai.HTTP_ROUTE: record.route,
            genai.HTTP_STATUS: record.status or None,
            genai.ERROR_TYPE: record.error,
            genai.REQUEST_ID: record.request_id,
            genai.REQUEST_MODEL: record.model,
            genai.CANCEL_PHASE: record.cancel_phase,
            genai.RESPONSE_CACHE: record.response_cache,
        }
    )


def of_admission(record: RequestRecord) -> Attributes:
    return _known(
        {
            genai.ADMISSION: record.admission,
            genai.PRIORITY: record.priority,
            genai.PRICED_BLOCKS: record.priced_blocks,
        }
    )


def of_generation(record: RequestRecord) -> Attributes:
    return _known(
        {
            genai.OPERATION_NAME: genai.OPERATIONS[record.path],
            genai.PROVIDER_NAME: genai.PROVIDER,
            genai.REQUEST_MODEL: record.model,
            genai.RESPONSE_MODEL: record.model,
            genai.RESPONSE_ID: record.completion_id,
            genai.CONVERSATION_ID: record.session,
            genai.FINISH_REASONS: [record.finish_reason] if record.finish_reason is not None else None,
            genai.INPUT_TOKENS: record.counts.prompt,
            genai.CACHED_TOKENS: record.counts.cached,
            genai.CACHE_HIT: record.counts.cached > 0,
            genai.OUTPUT_TOKENS: record.counts.completion,
            genai.REASONING_TOKENS: record.counts.reasoning,
            genai.PREEMPTIONS: record.preemptions,
            genai.BLOCKS: record.blocks,
            genai.TARGET: record.target,
            genai.ROUTING_REASON: record.attempts[-1].reason if record.attempts else None,
            genai.ERROR_TYPE: record.error,
        }
    )


def of_attempt(number: int, attempt: Attempt) -> Attributes:
    return _known(
        {
            genai.ATTEMPT: number,
            genai.TARGET: attempt.target,
            genai.ROUTING_REASON: attempt.reason,
            genai.ERROR_TYPE: attempt.failed,
        }
    )


def of_prompt(prompt: PromptInfo) -> Attributes:
    return _known(
        {
            genai.PROMPT_CACHE: prompt.cache,
            genai.PROMPT_CACHE_REASON: prompt.cache_reason or None,
            genai.PROMPT_VERSION: prompt.prompt_version,
        }
    )


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
