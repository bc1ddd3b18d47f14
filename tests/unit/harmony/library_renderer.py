"""The harmony library's own renderer, fed with our records: what ours is held to."""

from __future__ import annotations

import json

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
    if (developer := _developer(prompt)) is not None:
        turns.append(Turn.from_role_and_content(library.Role.DEVELOPER, developer))
    for message in prompt.messages:
        if message.role == "user":
            author = library.Author(role=library.Role.USER, name=message.name)
            turns.append(Turn.from_author_and_content(author, message.content))
        elif message.role == "assistant":
            turns += _assistant(message)
        elif message.role == "tool":
            author = library.Author(role=library.Role.TOOL, name=f"functions.{message.name}")
            result = Turn.from_author_and_content(author, message.content)
            turns.append(result.with_channel("commentary").with_recipient("assistant"))
    conversation = library.Conversation.from_messages(turns)
    return encoding().render_conversation_for_completion(conversation, library.Role.ASSISTANT)


def _developer(prompt: wire.PromptRequest) -> library.DeveloperContent | None:
    instructions = [m.content for m in prompt.messages if m.role in ("system", "developer")]
    folded = "\n\n".join(text for text in instructions if text.strip())
    if wanted := prompt.response_format:  # the library knows nothing of formats: as part of the instructions
        comment = "".join(f"// {line}\n" for line in wanted.description.splitlines())
        schema = json.dumps(wanted.schema, separators=(",", ":"), ensure_ascii=False)
        folded += f"\n\n# Response Formats\n\n## {wanted.name}\n\n{comment}{schema}"
    if not folded and not prompt.tools:
        return None
    content = library.DeveloperContent.new()
    if folded:
        content = content.with_instructions(folded)
    if prompt.tools:
        tools = [library.ToolDescription.new(t.name, t.description, t.parameters) for t in prompt.tools]
        content = content.with_function_tools(tools)
    return content


def _assistant(message: wire.Message) -> list[library.Message]:
    turns = []
    if message.reasoning:
        turns.append(assistant_turn("analysis", message.reasoning))
    if message.tool_calls:
        if message.content:
            turns.append(assistant_turn("commentary", message.content))
        for call in message.tool_calls:
            made = assistant_turn("commentary", call.arguments, f"functions.{call.name}")
            turns.append(made.with_content_type("<|constrain|>json"))
    elif message.content or not message.reasoning:
        turns.append(assistant_turn("final", message.content))
    return turns


def assistant_turn(channel: str, text: str, recipient: str | None = None) -> library.Message:
    turn = Turn.from_role_and_content(library.Role.ASSISTANT, text).with_channel(channel)
    return turn if recipient is None else turn.with_recipient(recipient)
