"""Prompts as the model reads them, from the one who renders them for the engines: Triton's normalizer.

Whatever shapes a prompt there (a pinned date, the version) is in what callers see, because it is the same
code in the same process.
"""

from __future__ import annotations

from frontend.service import Service
from frontend.triton import Triton
from gpt_oss_triton.errors import EngineUnavailable, Overloaded
from gpt_oss_triton.wire import PromptInfo, PromptRequest

_MOST_AT_ONCE = 8  # more would hold up the prompts of those who want an answer
_RETRY_AFTER_S = 1.0


class Normalizing:
    """Bounds the prompts that are rendered only to be looked at. One for each service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._running = 0

    async def render(self, ensemble: str, prompt: PromptRequest) -> tuple[list[int], PromptInfo]:
        """The prompt's token ids, and what is known of them.

        Raises:
            InvalidRequest: it cannot be rendered.
            Overloaded: too many want to look at theirs.
            EngineUnavailable, DeadlineExceeded: the normalizer cannot be reached.
        """
        if self._running >= _MOST_AT_ONCE:
            raise Overloaded("Too many prompts are being rendered.", retry_after_s=_RETRY_AFTER_S)
        self._running += 1
        try:
            return await self._triton(ensemble).normalize(prompt, self._service.settings.accept_timeout_s)
        finally:
            self._running -= 1

    def _triton(self, ensemble: str) -> Triton:
        """Any server of the ensemble whose engine is well: they all render the same."""
        for target in self._service.targets:
            if target.ensemble == ensemble and target.watch.problem is None:
                return target.watch.triton
        raise EngineUnavailable("The model's engine is not available.", retry_after_s=_RETRY_AFTER_S)
