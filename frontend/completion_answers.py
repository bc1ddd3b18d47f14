"""The answers to a completion's prompts: their runs, and what has come of each so far."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Request

from frontend import joint_record
from frontend.admission.ask import Ask
from frontend.completion_request import Completion
from frontend.completion_text import CompletionText, TextDelta
from frontend.request_body import apart_if_large
from frontend.routing.sessions import Turn
from frontend.run import Run
from frontend.run_context import SESSION_HEADER
from frontend.run_request import RunRequest
from frontend.runs import Runs
from frontend.service import Service
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.token_counts import TokenCounts
from gpt_oss_triton.wire import GenerationOptions, PromptRequest

Part = tuple[int, TextDelta, CompletionText]  # index of a choice, what is new of it, and all of it so far


class CompletionAnswers:
    """Made by `begin`. Iterate once `runs` is accepted.

    Args:
        whole: the request's record.
        echoes: what comes before each choice's answer.
        records: one for each choice; the request's own where there is one choice.
        runs: of the choices.
    """

    def __init__(
        self,
        completion: Completion,
        whole: RequestRecord,
        echoes: list[str],
        records: list[RequestRecord],
        runs: list[Run],
    ) -> None:
        self.records = records
        self.runs = Runs(runs, streamed=completion.stream and len(completion.prompts) == 1)
        self._per_prompt = completion.n
        self._whole = whole
        self._echoes = echoes
        self._texts = [
            CompletionText(
                completion.stop,
                show_control=completion.show_control,
                with_logprobs=completion.options.logprobs is not None,
            )
            for _ in records
        ]

    async def __aiter__(self) -> AsyncIterator[Part]:
        """What comes, as it comes; the last part of each choice has a finish reason."""
        async for index, answer in self.runs:
            text = self._texts[index]
            delta = text.feed(answer)
            if text.finish_reason is not None:
                record = self.records[index]
                record.finish_reason = text.finish_reason
                record.counts.cut(len(text.token_ids))  # more may have come than a stop string lets by
            if self._echoes[index]:
                delta.text = self._echoes[index] + delta.text
                self._echoes[index] = ""
            yield index, delta, text
            if text.finish_reason is not None:
                self.runs.leave(index)  # the engine knows nothing of stop strings that no channel bounds

    def usage(self) -> TokenCounts:
        return TokenCounts.joint([record.counts for record in self.records], self._per_prompt)

    def join_records(self) -> None:
        """At the end, however it came."""
        if len(self.records) > 1:
            joint_record.join(self._whole, self.records, self.usage())


async def begin(request: Request, completion: Completion, body: bytes, digest: bytes) -> CompletionAnswers:
    """The answers to a request whose model is served, each with what admission and routing know of it.

    Args:
        digest: of the body, by which the request is known when it comes back.
    """
    whole: RequestRecord = request.state.record
    choices = completion.choices
    records = [whole] if len(choices) == 1 else [joint_record.part_of(whole) for _ in choices]
    turn = _turn(request, completion)
    whole.session, whole.session_by = turn.session, turn.by
    echoes, asks = await apart_if_large(body, _prepared, request, completion, digest, turn, records)
    service: Service = request.app.state.service
    runs = [
        Run(service, _run_request(completion, prompt, options), ask, turn, f"{whole.completion_id}-{index}")
        for index, ((prompt, options), ask) in enumerate(zip(choices, asks, strict=True))
    ]
    return CompletionAnswers(completion, whole, echoes, records, runs)


def _turn(request: Request, completion: Completion) -> Turn:
    service: Service = request.app.state.service
    if len(completion.choices) > 1:  # they would push each other's lease out
        return Turn(service.sessions, None, None, None)
    header = request.headers.get(SESSION_HEADER)
    ensemble = service.resolve(completion.model)
    return service.sessions.turn(request.state.caller, ensemble, completion.prompts[0], header)


def _prepared(
    request: Request, completion: Completion, digest: bytes, turn: Turn, records: list[RequestRecord]
) -> tuple[list[str], list[Ask]]:
    """What comes before each answer, and what is asked for. Prompts can be long: the work on one is done once for all
    its answers."""
    service: Service = request.app.state.service
    marks = [digest + index.to_bytes(2) for index in range(len(records))]
    echoes: list[str] = []
    asks: list[Ask] = []
    for prompt in completion.prompts:
        echoes += [_text_of(prompt) if completion.echo else ""] * completion.n
        asked = _run_request(completion, prompt, completion.options)
        first = len(asks)
        ask = service.ask(asked, marks[first], request.state.caller, turn, records[first])
        others = range(first + 1, first + completion.n)
        asks += [ask, *(service.ask_again(ask, marks[index], records[index]) for index in others)]
    for ask in asks[1:]:
        ask.first = asks[0]
    return echoes, asks


def _run_request(completion: Completion, prompt: PromptRequest, options: GenerationOptions) -> RunRequest:
    return RunRequest(completion.model, prompt, options, completion.flex)


def _text_of(prompt: PromptRequest) -> str:
    return prompt.text if prompt.text is not None else tokens.decode(prompt.token_ids or ())
