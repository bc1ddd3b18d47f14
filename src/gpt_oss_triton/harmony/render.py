"""A conversation as the ids that the model reads, up to and with `<|start|>assistant`.

The same records give the same ids: the date is in the prompt only when the caller pins one, and nothing
is trimmed, reordered or normalized. The ids are put together here rather than by the harmony library's
renderer, which wants a JSON copy of the conversation; the goldens hold both to the same result.

- All `system` and `developer` messages, wherever they stand, are joined in order by blank lines into the
  `# Instructions` of one developer message. Blank ones are dropped; if none is left, so is the block.
- A user's `name` goes into the header as `user:name`. Elsewhere a name is refused: folded messages have no
  header of their own, and after `assistant:name` the model would answer with a header of that form.
- An assistant message is a `final`, also an empty one; with reasoning and no content (a turn cut short) it
  is an `analysis`. Analysis is dropped once any final follows.
- When the last message is the assistant's, it is history like any other, and the model starts a new turn.

Deliberate differences from the library: it drops analysis only before the first final and only when the
last assistant message is a final; and it fails on one very long word (see `tokens.encode_text`).
"""

from __future__ import annotations

import re
from functools import lru_cache

from gpt_oss_triton.errors import InvalidRequest, UnsupportedParameter
from gpt_oss_triton.harmony.tokens import CHANNEL, END, MESSAGE, START, encode_text
from gpt_oss_triton.wire import Message, PromptRequest, ReasoningEffort

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def render(prompt: PromptRequest, *, date: str | None = None) -> list[int]:
    """Token ids of the whole prompt.

    Args:
        prompt: what `check` accepts.
        date: `YYYY-MM-DD` for the system message's `Current date:`; None leaves the line out.

    Raises:
        InvalidRequest: see `check`.
    """
    check(prompt)
    ids = list(_system(prompt.reasoning_effort, date))
    instructions = [m.content for m in prompt.messages if m.role in ("system", "developer")]
    folded = "\n\n".join(text for text in instructions if text.strip())
    if folded:
        ids += _block(_header("developer"), f"# Instructions\n\n{folded}")
    last_final = max((i for i, m in enumerate(prompt.messages) if _is_final(m)), default=-1)
    for index, message in enumerate(prompt.messages):
        if message.role == "user":
            ids += _block(_header("user", message.name), message.content)
        elif _is_final(message):
            ids += _block(_header("assistant", channel="final"), message.content)
        elif message.role == "assistant" and message.reasoning and index > last_final:
            ids += _block(_header("assistant", channel="analysis"), message.reasoning)
    return [*ids, START, *_words("assistant")]


def render_plain(
    text: str, *, reasoning_effort: ReasoningEffort = "medium", date: str | None = None
) -> list[int]:
    """Token ids of a conversation that is one user message."""
    return render(PromptRequest([Message("user", text)], reasoning_effort), date=date)


def check(prompt: PromptRequest) -> None:
    """Refuse what cannot be rendered.

    Raises:
        InvalidRequest: no messages, a lone surrogate, a malformed name, reasoning outside of an assistant
            message; `param` names the field.
        UnsupportedParameter: a name on a message that is not the user's.
    """
    if not prompt.messages:
        raise InvalidRequest("messages must hold at least one message.", param="messages")
    for index, message in enumerate(prompt.messages):
        _check_text(message.content, f"messages[{index}].content")
        if message.reasoning is not None:
            _check_text(message.reasoning, f"messages[{index}].reasoning")
            if message.role != "assistant":
                raise InvalidRequest(
                    f"A {message.role} message has no reasoning.", param=f"messages[{index}].reasoning"
                )
        if message.name is not None:
            _check_name(message, f"messages[{index}].name")


def _check_text(text: str, param: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"The text is not valid Unicode: lone surrogate at character {error.start}.", param=param
        ) from None


def _check_name(message: Message, param: str) -> None:
    if message.role != "user":
        raise UnsupportedParameter(f"The name of a {message.role} message is not supported.", param=param)
    if message.name is None or not _NAME.fullmatch(message.name):
        raise InvalidRequest("A name is 1 to 64 letters, digits, underscores or hyphens.", param=param)


def _is_final(message: Message) -> bool:
    return message.role == "assistant" and bool(message.content or not message.reasoning)


def _block(header: list[int], text: str) -> list[int]:
    return [START, *header, MESSAGE, *encode_text(text), END]


def _header(role: str, name: str | None = None, channel: str | None = None) -> list[int]:
    ids = list(_words(role))
    if name is not None:
        ids += encode_text(f":{name}")
    if channel is not None:
        ids += [CHANNEL, *_words(channel)]
    return ids


@lru_cache(maxsize=16)
def _words(text: str) -> tuple[int, ...]:
    """Ids of one of the format's own few words."""
    return tuple(encode_text(text))


@lru_cache(maxsize=16)
def _system(effort: ReasoningEffort, date: str | None) -> tuple[int, ...]:
    lines = ["You are ChatGPT, a large language model trained by OpenAI.", "Knowledge cutoff: 2024-06"]
    if date is not None:
        lines.append(f"Current date: {date}")
    lines += ["", f"Reasoning: {effort}", ""]
    lines.append("# Valid channels: analysis, commentary, final. Channel must be included for every message.")
    return tuple(_block(_header("system"), "\n".join(lines)))
