"""Answers of an engine to many prompts, and what a client would see of each."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import openai_harmony
from openai_harmony import Role, StreamableParser

from gpt_oss_triton.engine.protocol import (
    Engine,
    EngineEvent,
    EngineRequest,
    NewTokens,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.harmony.answer import AnswerText
from gpt_oss_triton.harmony.tokens import CALL, RETURN, encoding
from gpt_oss_triton.wire import GenerationOptions

_AT_ONCE = 32  # requests that the engine has at any time


@dataclass(frozen=True, slots=True)
class Question:
    """
    Attributes:
        functions: names of those that may be called.
    """

    prompt: list[int]
    functions: frozenset[str]
    options: GenerationOptions


@dataclass(frozen=True, slots=True)
class Answer:
    """
    Attributes:
        valid: harmony by the harmony library's strict parser, ended by the model itself.
        call: the function called, and its arguments as written; None for an answer in words.
    """

    valid: bool
    content: str
    call: tuple[str, str] | None
    analysis_tokens: int


def ask(engine: Engine, questions: Sequence[Question]) -> Iterator[tuple[int, Answer]]:
    """Place and answer of every question, as they are done."""
    ends: queue.Queue[int] = queue.Queue()
    tokens: list[list[int]] = [[] for _ in questions]

    def submit(place: int) -> None:
        def deliver(event: EngineEvent) -> None:
            if isinstance(event, NewTokens):
                tokens[place] += event.token_ids
            elif isinstance(event, SequenceFinished | SequenceFailed):
                ends.put(place)

        question = questions[place]
        engine.submit(EngineRequest(f"question-{place}", question.prompt, question.options), deliver)

    waiting = iter(range(len(questions)))
    for place in islice(waiting, _AT_ONCE - 1):
        submit(place)
    for _ in questions:
        if (following := next(waiting, None)) is not None:
            submit(following)
        done = ends.get()
        yield done, read(tokens[done], questions[done].functions)


def read(tokens: list[int], functions: Iterable[str]) -> Answer:
    """What the model wrote behind `<|start|>assistant`, as the API shows it."""
    fold = AnswerText(tools=frozenset(functions))
    deltas = [*fold.feed(tokens), *fold.finish()]
    content = "".join(delta.text for delta in deltas if delta.kind == "content")
    names = [delta.name for delta in deltas if delta.name is not None]
    arguments = "".join(delta.text for delta in deltas if delta.call == 0)
    call = (names[0], arguments) if names else None
    return Answer(_is_valid(tokens), content, call, fold.reasoning_tokens)


def _is_valid(tokens: list[int]) -> bool:
    if not tokens or tokens[-1] not in (RETURN, CALL):
        return False
    parser = StreamableParser(encoding(), role=Role.ASSISTANT)
    try:
        for token in tokens:
            parser.process(token)
    except openai_harmony.HarmonyError:
        return False
    last = parser.messages[-1] if parser.messages else None
    return last is not None and (last.channel == "final" or last.recipient is not None)
