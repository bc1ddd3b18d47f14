"""An episode as token ids: the prompt that the server would render, the answer that the model should give."""

from __future__ import annotations

from dataclasses import dataclass

from gpt_oss_triton.demo.corpus.episode import Call, Episode, Turn, compact_json
from gpt_oss_triton.harmony.render import render
from gpt_oss_triton.harmony.tokens import encode_marked
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
    """The last turn's answers are learned; what came before is only read, as the server would render it."""
    ids: list[int] = []
    learned: list[bool] = []
    for step in range(len(episode.turns[-1].calls) + 1):
        prompt = prompt_of(episode, step)
        if prompt[: len(ids)] != ids:
            raise AssertionError("what was answered so far is not a prefix of the next prompt")
        answer = answer_of(episode.turns[-1], step)
        learned += [False] * (len(prompt) - len(ids)) + [True] * len(answer)
        ids = prompt + answer
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
    """What the model should write behind that prompt, its end token included."""
    if step < len(turn.calls):
        call = turn.calls[step]
        text = (
            f"<|channel|>analysis<|message|>{call.analysis}<|end|><|start|>assistant<|channel|>commentary"
            f" to=functions.{call.name} <|constrain|>json<|message|>{arguments_of(call)}<|call|>"
        )
    else:
        text = (
            f"<|channel|>analysis<|message|>{turn.analysis}<|end|><|start|>assistant<|channel|>final"
            f"<|message|>{turn.final}<|return|>"
        )
    return encode_marked(text)


def arguments_of(call: Call) -> str:
    return compact_json(call.arguments)
