"""What the shim needs to know of a prompt to have it answered, whichever endpoint it came by."""

from __future__ import annotations

from msgspec import Struct

from gpt_oss_triton.wire import GenerationOptions, PromptRequest


class RunRequest(Struct, frozen=True):
    """Attributes:
    model: its id at the API.
    flex: it is in no hurry, and goes into the lowest class.
    """

    model: str
    prompt: PromptRequest
    options: GenerationOptions
    flex: bool
