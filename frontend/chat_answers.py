"""The answers to one chat request: their runs, and what becomes of each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

import msgspec
from fastapi import Request

from frontend import joint_record
from frontend.admission.ask import Ask
from frontend.call_ids import call_id
from frontend.chat_request import Chat
from frontend.fold import AnswerFold, Ending, GatheredCall, Part
from frontend.generation_fields import seeded
from frontend.reasoning_memory import ReasoningMemory
from frontend.request_body import apart_if_large
from frontend.routing.sessions import Turn
from frontend.run import Run
from frontend.run_context import SESSION_HEADER
from frontend.runs import Runs
from frontend.service import Service
from gpt_oss_triton.harmony.answer import AnswerDelta, AnswerText
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import ToolCall


class ChatAnswers:
    """Made by `begin`. Enter `runs`, await its `accepted`, then iterate over (index of the answer, part).

    Args:
        whole: the request's record.
        keep_reasoning: takes the id of an answer's first call, and what was thought before it.
        records: one for each run; the request's own where there is one run.
        turn: the first run's.
    """

    def __init__(
        self,
        chat: Chat,
        whole: RequestRecord,
        keep_reasoning: Callable[[str, str], None],
        records: list[RequestRecord],
        runs: list[Run],
        turn: Turn,
    ) -> None:
        self.records = records
        self.runs = Runs(runs, streamed=chat.stream)
        self._whole = whole
        self._keep_reasoning = keep_reasoning
        self._turn = turn
        self._content: list[str] = []  # of the first answer,
        self._calls: list[GatheredCall] = []  # and its calls
        self._reasoning: list[list[str]] = [[] for _ in runs]
        self._include_reasoning = chat.include_reasoning
        self._folds = [
            AnswerFold(
                AnswerText(chat.options.stop, chat.functions),
                return_token_ids=chat.return_token_ids,
                scored=chat.options.logprobs is not None,
            )
            for _ in runs
        ]

    async def __aiter__(self) -> AsyncIterator[tuple[int, Part]]:
        """Each answer's parts come in order; its last one is the `Ending`."""
        async for index, answer in self.runs:
            for part in self._folds[index].feed(answer):
                self._note(index, part)
                if self._include_reasoning or isinstance(part, Ending) or part.kind != "reasoning":
                    yield index, part

    def usage(self) -> TokenCounts:
        return TokenCounts.joint([record.counts for record in self.records], len(self.records))

    def join_records(self) -> None:
        """At the end, however it came."""
        if len(self.records) > 1:
            joint_record.join(self._whole, self.records, self.usage())

    def _note(self, index: int, part: Part) -> None:
        if not isinstance(part, Ending):
            if part.kind == "reasoning":
                self._reasoning[index].append(part.text)
            elif index == 0:
                self._note_turn(part)
            return
        if part.finish_reason == "tool_calls":
            first = call_id(str(self._whole.completion_id), index, 0)
            self._keep_reasoning(first, "".join(self._reasoning[index]))
        record = self.records[index]
        record.finish_reason = part.finish_reason
        record.counts.reasoning = part.reasoning_tokens
        if index == 0:
            calls = [ToolCall(call.name, "".join(call.arguments)) for call in self._calls]
            self._turn.answered("".join(self._content), calls)

    def _note_turn(self, part: AnswerDelta) -> None:
        """What the client will send back of the first answer."""
        if part.kind == "content":
            self._content.append(part.text)
        elif part.name is not None:
            self._calls.append(GatheredCall(part.name))
        else:
            self._calls[-1].arguments.append(part.text)


async def begin(request: Request, chat: Chat, body: bytes) -> ChatAnswers:
    """The answers to a request whose model is served, each with what admission and routing know of it."""
    service: Service = request.app.state.service
    whole: RequestRecord = request.state.record
    caller = request.state.caller
    memory: ReasoningMemory = request.app.state.reasoning_memory
    chat = memory.recall(caller, chat)
    turn = service.sessions.turn(
        caller,
        service.resolve(chat.model),
        chat.prompt,
        request.headers.get(SESSION_HEADER),
        chat.prompt_cache_key,
    )
    whole.session, whole.session_by = turn.session, turn.by
    records = [whole] if chat.n == 1 else [joint_record.part_of(whole) for _ in range(chat.n)]
    runs: list[Run] = []
    first: Ask | None = None
    for index, record in enumerate(records):
        # Only the first goes on with the session: they would push each other's lease out.
        of_run = turn if index == 0 else Turn(service.sessions, None, None, None)
        mark = body if index == 0 else b"%d %b" % (index, body)
        if first is None:
            ask = first = await apart_if_large(body, service.ask, chat, mark, caller, of_run, record)
        else:
            ask = await apart_if_large(body, service.ask_again, first, mark, record)
        of_index = msgspec.structs.replace(chat, options=seeded(chat.options, index))
        runs.append(Run(service, of_index, ask, of_run, _run_id(whole, index, chat.n)))
    return ChatAnswers(chat, whole, partial(memory.keep, caller), records, runs, turn)


def _run_id(record: RequestRecord, index: int, count: int) -> str:
    return f"{record.completion_id}-{index}" if count > 1 else str(record.completion_id)
