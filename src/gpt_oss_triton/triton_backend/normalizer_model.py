"""The prompt normalizer model: a conversation or a plain text in, harmony token ids out.

One response for each request, in its place: a bad one costs its neighbours nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from gpt_oss_triton import wire
from gpt_oss_triton.config import NormalizerSettings
from gpt_oss_triton.errors import ConfigurationError, InternalError, InvalidRequest, ServiceError
from gpt_oss_triton.harmony.prompt import normalize_prompt
from gpt_oss_triton.harmony.rendered_cache import RenderedPromptCache
from gpt_oss_triton.triton_backend.failure_log import log_failure
from gpt_oss_triton.triton_backend.inputs import Inputs
from gpt_oss_triton.triton_backend.responder import triton_error
from gpt_oss_triton.triton_backend.self_check import check_tensors
from gpt_oss_triton.wire import Message, PromptRequest


class NormalizerModel:
    """What `prompt_normalizer/1/model.py` gives to Triton."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Raises:
        TritonModelException: it cannot be served as configured; says what to change.
        """
        try:
            check_tensors()
            self._settings = NormalizerSettings.load()
        except ConfigurationError as error:
            raise pb_utils.TritonModelException(str(error)) from None
        self._name = args["model_instance_name"]
        self._cache = RenderedPromptCache(
            self._settings.prompt_cache_entries, self._settings.prompt_cache_ttl_s
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def finalize(self) -> None:
        stats = self._cache.stats()
        pb_utils.Logger.log_info(
            f"{self._name}: rendered-prompt cache: {stats.hits} hits, misses {stats.misses}, "
            f"{stats.entries} entries with {stats.tokens} tokens"
        )

    def _respond(self, request: Any) -> Any:
        try:
            ids, info = normalize_prompt(read_prompt(Inputs(request)), self._settings, self._cache)
        except ServiceError as error:
            return pb_utils.InferenceResponse(error=triton_error(error))
        except Exception as error:  # process boundary: a client gets no stack trace
            log_failure("a prompt could not be rendered", error)
            return pb_utils.InferenceResponse(
                error=triton_error(InternalError("The prompt could not be rendered."))
            )
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(wire.PROMPT_TOKEN_IDS.name, np.array(ids, dtype=np.int32)),
                pb_utils.Tensor(wire.PROMPT_INFO.name, np.array([[wire.encode(info)]], dtype=np.object_)),
            ]
        )


def read_prompt(inputs: Inputs) -> PromptRequest:
    """The conversation that a request carries; plain text is one user message.

    Raises:
        InvalidRequest: neither or both forms, or one that cannot be read.
    """
    text, prompt = inputs.text(wire.TEXT_INPUT), inputs.record(wire.PROMPT, PromptRequest)
    if prompt is not None and text is not None:
        raise InvalidRequest(
            f"Give {wire.TEXT_INPUT.name} or {wire.PROMPT.name}, not both.", param=wire.PROMPT.name
        )
    if prompt is not None:
        return prompt
    if text is None:
        raise InvalidRequest(
            f"{wire.TEXT_INPUT.name} (or {wire.PROMPT.name}) is missing.", param=wire.TEXT_INPUT.name
        )
    return PromptRequest([Message("user", text)])
