"""What every engine refuses at submission, in the same order and with the same words."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from gpt_oss_triton.engine.capabilities import Capabilities, check_supported
from gpt_oss_triton.engine.protocol import EngineRequest
from gpt_oss_triton.errors import ContextLengthExceeded, InvalidRequest, Overloaded
from gpt_oss_triton.options import check_options


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """One engine's.

    Attributes:
        vocabulary: ids below it exist.
        max_context: tokens of prompt and answer together.
        default_max_tokens: of an answer, where a request says nothing; None: what the context leaves.
        max_live: requests that run or wait.
    """

    capabilities: Capabilities
    vocabulary: int
    max_context: int
    default_max_tokens: int | None
    max_live: int

    def check(self, request: EngineRequest) -> int:
        """The most tokens the answer may have.

        Raises:
            InvalidRequest: it can never run here; see `protocol.Engine.submit`.
        """
        check_supported(self.capabilities, request.options)
        check_options(request.options, self.vocabulary)
        prompt, options = request.prompt_token_ids, request.options
        asked = options.max_tokens
        if not prompt:
            raise InvalidRequest("The prompt has no tokens.", param="prompt_token_ids")
        if not 0 <= min(prompt) <= max(prompt) < self.vocabulary:
            raise InvalidRequest(
                f"Prompt tokens must lie in 0 … {self.vocabulary - 1}.", param="prompt_token_ids"
            )
        if request.options.stop and request.stop_text is None:
            raise InvalidRequest("Stop strings need a function that finds them in text.", param="stop")
        room = self.max_context - len(prompt)
        if room < 1 or (asked is not None and asked > room):
            raise ContextLengthExceeded(
                f"This model's context holds {self.max_context} tokens, but the prompt has {len(prompt)} and the "
                f"answer was asked to have up to {asked or 1}.",
                param="messages" if room < 1 else "max_tokens",
            )
        return min(room, asked or self.default_max_tokens or room, options.most_tokens or room)

    def check_room(self, request_id: str, live: Container[str], count: int) -> None:
        """Whether one more may come, beside the `count` that are `live` now.

        Raises:
            InvalidRequest: this id is live.
            Overloaded: as many are live as may be.
        """
        if request_id in live:
            raise InvalidRequest(f"A request with id {request_id!r} is already running.", param="request_id")
        if count >= self.max_live:
            raise Overloaded(
                f"{count} requests are running or waiting, and no more than {self.max_live} may.",
                retry_after_s=1,
            )
