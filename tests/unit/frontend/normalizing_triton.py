"""A fake Triton whose normalizer is the real one."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2

from gpt_oss_triton import wire
from gpt_oss_triton.config import NormalizerSettings
from gpt_oss_triton.errors import ServiceError, to_wire
from gpt_oss_triton.harmony.prompt import normalize_prompt
from gpt_oss_triton.harmony.rendered_cache import RenderedPromptCache
from tests.unit.frontend.fake_triton import FakeTriton


class NormalizingTriton(FakeTriton):
    """Attributes:
    normalizer: its settings.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.normalizer = NormalizerSettings(**settings)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        assert request.model_name == wire.NORMALIZER_MODEL
        await self._hang_if_not_alive()
        prompt = wire.decode(request.raw_input_contents[0][4:], wire.PromptRequest)
        try:
            ids, info = normalize_prompt(prompt, self.normalizer, RenderedPromptCache())
        except ServiceError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, to_wire(error))
        response = service_pb2.ModelInferResponse()
        data = wire.encode(info)
        response.outputs.add(name=wire.PROMPT_TOKEN_IDS.name, datatype="INT32", shape=[len(ids)])
        response.raw_output_contents.append(np.asarray(ids, dtype=np.int32).tobytes())
        response.outputs.add(name=wire.PROMPT_INFO.name, datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(len(data).to_bytes(4, "little") + data)
        return response
