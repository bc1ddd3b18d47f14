"""What `POST /v1/completions` accepts, and its translation into the records that Triton gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from frontend.completion_fields import FIELDS
from frontend.generation_fields import GenerationFields, TokenLimit, check_stream, seeded
from frontend.request_fields import read_fields
from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.harmony.check import MAX_PROMPT_IDS
from gpt_oss_triton.options import VOCABULARY, check_options
from gpt_oss_triton.wire import GenerationOptions, PromptRequest

MAX_CHOICES = 128  # of one request, all prompts together
MAX_LOGPROBS = 5
_DEFAULT_MAX_TOKENS = 16

TokenId = Annotated[int, Meta(ge=0, lt=VOCABULARY)]
TokenIds = Annotated[list[TokenId], Meta(min_length=1, max_length=MAX_PROMPT_IDS)]


class CompletionRequest(GenerationFields, kw_only=True):
    """The honoured fields; `completion_fields.FIELDS` has them all."""

    model: str
    prompt: str | list[Any]
    echo: bool = False
    logprobs: Annotated[int, Meta(ge=0, le=MAX_LOGPROBS)] | None = None
    max_tokens: TokenLimit = _DEFAULT_MAX_TOKENS
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] = 1
    best_of: int | None = None
    skip_special_tokens: bool = True


class Completion(Struct, frozen=True):
    """A request that has been checked and is ready to run.

    Attributes:
        prompts: each to be answered `n` times.
        options: of every answer but for its seed; without `stop`, which is matched in the text it is shown as.
    """

    model: str
    prompts: list[PromptRequest]
    options: GenerationOptions
    n: int
    stop: list[str]
    echo: bool
    show_control: bool
    stream: bool
    include_usage: bool
    return_token_ids: bool
    flex: bool

    @property
    def choices(self) -> list[tuple[PromptRequest, GenerationOptions]]:
        """In the order of their index: the answers to the first prompt come first."""
        return [(prompt, seeded(self.options, number)) for prompt in self.prompts for number in range(self.n)]


def read_completion(body: bytes, defaults: Mapping[str, Any] = MappingProxyType({})) -> Completion:
    """Check a request body. `defaults` stand in for honoured fields that it leaves out.

    Raises:
        InvalidRequest: `param` is the path of the first field at fault.
    """
    request = read_fields(body, CompletionRequest, FIELDS, defaults)
    _check(request)
    prompts = _prompts(request.prompt)
    if len(prompts) * request.n > MAX_CHOICES:
        raise InvalidRequest(f"At most {MAX_CHOICES} answers can be asked for at once.", param="n")
    options = request.options(max_tokens=request.max_tokens, logprobs=request.logprobs)
    check_options(options)
    return Completion(
        model=request.model,
        prompts=prompts,
        options=msgspec.structs.replace(options, stop=[]),
        n=request.n,
        stop=options.stop,
        echo=request.echo,
        show_control=not request.skip_special_tokens,
        stream=request.stream,
        include_usage=request.include_usage,
        return_token_ids=request.return_token_ids,
        flex=request.flex,
    )


def _check(request: CompletionRequest) -> None:
    check_stream(request.stream, request.stream_options)
    if request.best_of not in (None, request.n):
        raise UnsupportedParameter("best_of must be n: every answer is returned.", param="best_of")
    if request.echo and request.logprobs is not None:
        raise UnsupportedParameter(
            "The prompt's logprobs are not computed: no echo with logprobs.", param="logprobs"
        )


def _prompts(prompt: str | list[Any]) -> list[PromptRequest]:
    """One, or several: what a list is depends on its first element."""
    if isinstance(prompt, str):
        return [_text(prompt, "prompt")]
    if not prompt:
        raise InvalidRequest("prompt must not be empty.", param="prompt")
    if isinstance(prompt[0], int):
        return [_token_ids(prompt, "prompt")]
    if len(prompt) > MAX_CHOICES:
        raise InvalidRequest(f"At most {MAX_CHOICES} prompts can be given at once.", param="prompt")
    one = _text if isinstance(prompt[0], str) else _token_ids
    return [one(element, f"prompt[{index}]") for index, element in enumerate(prompt)]


def _text(value: Any, path: str) -> PromptRequest:
    if not isinstance(value, str):
        raise InvalidRequest(f"{path} must be a text, as the first one is.", param=path)
    if not value:
        raise InvalidRequest(f"{path} must not be empty.", param=path)
    return PromptRequest(text=value)


def _token_ids(value: Any, path: str) -> PromptRequest:
    try:
        return PromptRequest(token_ids=msgspec.convert(value, TokenIds))
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"{path} must be 1 to {MAX_PROMPT_IDS} token ids from 0 to {VOCABULARY - 1}.", param=path
        ) from None


def own_param(param: str) -> str:
    """What a field of a raw prompt, or of what it was rendered from, is called at this endpoint."""
    return "prompt" if param.partition("[")[0] in ("messages", "text", "token_ids") else param
