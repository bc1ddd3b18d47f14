"""The harmony library's own renderer, fed with our records: what ours is held to."""

from __future__ import annotations

import openai_harmony as library

from gpt_oss_triton import wire
from gpt_oss_triton.harmony.tokens import encoding

Turn = library.Message


def library_render(prompt: wire.PromptRequest, date: str | None = None) -> list[int]:
    system = library.SystemContent.new().with_reasoning_effort(
        library.ReasoningEffort(prompt.reasoning_effort.capitalize())
    )
    if date is not None:
        system = system.with_conversation_start_date(date)
    turns = [Turn.from_role_and_content(library.Role.SYSTEM, system)]
    instructions = [m.content for m in prompt.messages if m.role in ("system", "developer")]
    if any(text.strip() for text in instructions):
        folded = "\n\n".join(text for text in instructions if text.strip())
        content = library.DeveloperContent.new().with_instructions(folded)
        turns.append(Turn.from_role_and_content(library.Role.DEVELOPER, content))
    for message in prompt.messages:
        if message.role == "user":
            author = library.Author(role=library.Role.USER, name=message.name)
            turns.append(Turn.from_author_and_content(author, message.content))
        elif message.role == "assistant":
            turns += _assistant(message)
    conversation = library.Conversation.from_messages(turns)
    return encoding().render_conversation_for_completion(conversation, library.Role.ASSISTANT)


def _assistant(message: wire.Message) -> list[library.Message]:
    turns = []
    if message.reasoning:
        turns.append(assistant_turn("analysis", message.reasoning))
    if message.content or not message.reasoning:
        turns.append(assistant_turn("final", message.content))
    return turns


def assistant_turn(channel: str, text: str, recipient: str | None = None) -> library.Message:
    turn = Turn.from_role_and_content(library.Role.ASSISTANT, text).with_channel(channel)
    return turn if recipient is None else turn.with_recipient(recipient)
