"""A prompt as the ids that the model reads: a conversation up to and with `<|start|>assistant`, or as it stands.

The same records give the same ids: the date is in the prompt only when the caller pins one, and nothing
is trimmed, reordered or normalized. The ids are put together here rather than by the harmony library's
renderer, which wants a JSON copy of the conversation; the goldens hold both to the same result.

- `developer.py` writes the developer message; where it has nothing to say there is none.
- A user's `name` goes into the header as `user:name`. Elsewhere a name is refused: folded messages have no
  header of their own, and after `assistant:name` the model would answer with a header of that form.
- An assistant message is a `final`, also an empty one; with reasoning and no content (a turn cut short) it
  is an `analysis`. With tool calls it is no final: its content is the preamble in `commentary`, and each call
  follows in the order in which the model writes one. So a call that comes back has the prefix that it had.
- Analysis is dropped once any final follows, and so kept over the tool calls of the running turn.
- A tool's result is from `functions.name` to the assistant, in `commentary`.
- When the last message is the assistant's, it is history like any other, and the model starts a new turn.

Deliberate differences from the library: it drops analysis only before the first final and only when the
last assistant message is a final; it puts the recipient of a tool's result into the channel section, where the
format's own text puts it behind the role; and it fails on one very long word (see `tokens.encode_text`). Those in
the types of functions are in `typescript.py`.
"""

from __future__ import annotations

from functools import lru_cache

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony.check import check
from gpt_oss_triton.harmony.developer import developer_text
from gpt_oss_triton.harmony.tokens import (
    CALL,
    CHANNEL,
    CONSTRAIN,
    END,
    MESSAGE,
    START,
    encode_marked,
    encode_text,
)
from gpt_oss_triton.harmony.typescript import SchemaTooLarge
from gpt_oss_triton.wire import Message, PromptRequest, ReasoningEffort, ToolCall


def render(prompt: PromptRequest, *, date: str | None = None) -> list[int]:
    """Token ids of the whole prompt.

    Args:
        prompt: what `check` accepts.
        date: `YYYY-MM-DD` for the system message's `Current date:`; None leaves the line out.

    Raises:
        InvalidRequest: see `check`; or the parameters of a function are too large when written out.
    """
    check(prompt)
    if prompt.token_ids is not None:
        return list(prompt.token_ids)
    if prompt.text is not None:
        return encode_marked(prompt.text)
    ids = list(_system(prompt.reasoning_effort, date, bool(prompt.tools)))
    if developer := _developer(prompt):
        ids += _block(_words("developer"), developer)
    last_final = max((i for i, m in enumerate(prompt.messages) if _is_final(m)), default=-1)
    for index, message in enumerate(prompt.messages):
        if message.role == "user":
            ids += _block(_header("user", message.name), message.content)
        elif message.role == "tool":
            ids += _block(_channel(f"functions.{message.name} to=assistant", "commentary"), message.content)
        elif message.role == "assistant":
            ids += _assistant(message, with_analysis=index > last_final)
    return [*ids, START, *_words("assistant")]


def render_plain(
    text: str, *, reasoning_effort: ReasoningEffort = "medium", date: str | None = None
) -> list[int]:
    """Token ids of a conversation that is one user message."""
    return render(PromptRequest([Message("user", text)], reasoning_effort), date=date)


def _developer(prompt: PromptRequest) -> str:
    try:
        return developer_text(prompt)
    except SchemaTooLarge:
        raise InvalidRequest(
            "The parameters of a function are too large when written out.", param="tools"
        ) from None


def _is_final(message: Message) -> bool:
    if message.role != "assistant" or message.tool_calls:
        return False
    return bool(message.content or not message.reasoning)


def _assistant(message: Message, *, with_analysis: bool) -> list[int]:
    if _is_final(message):
        return _block(_channel("assistant", "final"), message.content)
    ids: list[int] = []
    if message.reasoning and with_analysis:
        ids += _block(_channel("assistant", "analysis"), message.reasoning)
    if message.content:
        ids += _block(_channel("assistant", "commentary"), message.content)
    for call in message.tool_calls:
        ids += _call(call)
    return ids


def _call(call: ToolCall) -> list[int]:
    header = _channel("assistant", f"commentary to=functions.{call.name} ")
    return [START, *header, CONSTRAIN, *_words("json"), MESSAGE, *encode_text(call.arguments), CALL]


def _block(header: list[int] | tuple[int, ...], text: str) -> list[int]:
    return [START, *header, MESSAGE, *encode_text(text), END]


def _header(role: str, name: str | None) -> list[int]:
    return [*_words(role)] if name is None else encode_text(f"{role}:{name}")


def _channel(role: str, channel: str) -> list[int]:
    return [*_words(role), CHANNEL, *_words(channel)]


@lru_cache(maxsize=1024)
def _words(text: str) -> tuple[int, ...]:
    """Ids of one of the format's own few words, or of a function's header."""
    return tuple(encode_text(text))


@lru_cache(maxsize=16)
def _system(effort: ReasoningEffort, date: str | None, functions: bool) -> tuple[int, ...]:
    lines = ["You are ChatGPT, a large language model trained by OpenAI.", "Knowledge cutoff: 2024-06"]
    if date is not None:
        lines.append(f"Current date: {date}")
    lines += ["", f"Reasoning: {effort}", ""]
    lines.append("# Valid channels: analysis, commentary, final. Channel must be included for every message.")
    if functions:
        lines.append("Calls to these tools must go to the commentary channel: 'functions'.")
    return tuple(_block(_words("system"), "\n".join(lines)))
