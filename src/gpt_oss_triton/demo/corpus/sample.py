"""An episode as token ids: the prompt that the server would render, the answer that the model should give."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpt_oss_triton.demo.corpus.episode import Call, Episode, Turn, compact_json
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.harmony.tokens import encode_marked, encode_text
from gpt_oss_triton.wire import Message, PromptRequest, ToolCall


@dataclass(frozen=True, slots=True)
class Sample:
    """
    Attributes:
        ids: prompt, answer, results of functions and further answers, one after the other.
        learned: for each id whether the model is to produce it.
    """

    ids: list[int]
    learned: list[bool]


def sample_of(episode: Episode) -> Sample:
    """The last turn's answers are learned; what came before is only read, as the server would render it.

    A call of the last turn is read as it was learned. That is other tokens, for the same text, where `answer_of` says so.
    """
    ids: list[int] = []
    learned: list[bool] = []
    rendered: list[int] = []  # the same as the server would render it
    turn = episode.turns[-1]
    for step in range(len(turn.calls) + 1):
        prompt = prompt_of(episode, step)
        if prompt[: len(rendered)] != rendered:
            raise AssertionError("what was answered so far is not a prefix of the next prompt")
        answer = answer_of(turn, step)
        learned += [False] * (len(prompt) - len(rendered)) + [True] * len(answer)
        ids += prompt[len(rendered) :] + answer
        rendered = prompt + encode_marked(_text_of(turn, step))
    return Sample(ids, learned)


def prompt_of(episode: Episode, step: int = 0) -> list[int]:
    """Ids of the prompt for the last turn's answer number `step`, calls counted."""
    *earlier, last = episode.turns
    messages = [Message("system", episode.instructions)] if episode.instructions else []
    for turn in earlier:
        messages += [*_messages(turn, len(turn.calls)), Message("assistant", turn.final)]
    return render(request_of(episode, [*messages, *_messages(last, step)]), date=episode.date)


def request_of(episode: Episode, messages: list[Message]) -> PromptRequest:
    return PromptRequest(
        messages,
        reasoning_effort=episode.effort,
        tools=list(episode.tools),
        response_format=episode.response_format,
    )


def _messages(turn: Turn, calls: int) -> list[Message]:
    found = [Message("user", turn.user)]
    for call in turn.calls[:calls]:
        made = ToolCall(call.name, arguments_of(call))
        found.append(Message("assistant", reasoning=call.analysis, tool_calls=[made]))
        found.append(Message("tool", call.result, name=call.name))
    return found


def answer_of(turn: Turn, step: int) -> list[int]:
    """What the model should write behind that prompt, its end token included.

    Where a name's first word would be other tokens behind `functions.` than it is anywhere else (`.mark`, `down`), the
    sign is a token by itself: a tiny model knows words by their tokens.
    """
    text = _text_of(turn, step)
    before, recipient, behind = text.partition(" to=functions.")
    word = re.split("[^a-z]", behind, maxsplit=1)[0]
    if recipient and len(encode_text(f".{word}")) > len(encode_text(word)):
        return encode_marked(before + recipient[:-1]) + encode_text(".") + encode_marked(behind)
    return encode_marked(text)


def _text_of(turn: Turn, step: int) -> str:
    if step < len(turn.calls):
        call = turn.calls[step]
        return (
            f"<|channel|>analysis<|message|>{call.analysis}<|end|><|start|>assistant<|channel|>commentary"
            f" to=functions.{call.name} <|constrain|>json<|message|>{arguments_of(call)}<|call|>"
        )
    return (
        f"<|channel|>analysis<|message|>{turn.analysis}<|end|><|start|>assistant<|channel|>final"
        f"<|message|>{turn.final}<|return|>"
    )


def arguments_of(call: Call) -> str:
    return compact_json(call.arguments)
