"""The answers to a completion's prompts: their runs, and what has come of each so far."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import Request

from frontend import joint_record
from frontend.chat_request import Chat
from frontend.completion_reply import CompletionUsage
from frontend.completion_request import Completion
from frontend.completion_text import CompletionText, TextDelta
from frontend.routing.sessions import Turn
from frontend.run import Run
from frontend.run_context import SESSION_HEADER
from frontend.runs import Runs
from frontend.service import Service
from frontend.triton import Answer
from gpt_oss_triton.harmony import tokens
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.wire import Finished, GenerationOptions, PromptRequest

Part = tuple[int, TextDelta, CompletionText]  # index of a choice, what is new of it, and all of it so far


class CompletionAnswers:
    """Iterate once `runs` is accepted.

    Args:
        digest: of the body, by which the request is known when it comes back.

    Attributes:
        records: one for each choice; the request's own where there is one choice.
    """

    def __init__(self, request: Request, completion: Completion, digest: bytes) -> None:
        self._completion = completion
        choices = completion.choices
        record: RequestRecord = request.state.record
        self._whole = record
        self.records = [record] if len(choices) == 1 else [joint_record.part_of(record) for _ in choices]
        self._texts = [
            CompletionText(
                completion.stop,
                show_control=completion.show_control,
                with_logprobs=completion.options.logprobs is not None,
            )
            for _ in choices
        ]
        self._echoes = [_text_of(prompt) if completion.echo else "" for prompt, _ in choices]
        self.runs = Runs(
            [
                self._run(request, index, prompt, options, digest)
                for index, (prompt, options) in enumerate(choices)
            ]
        )

    async def __aiter__(self) -> AsyncIterator[Part]:
        """What comes, as it comes; the last part of each choice has a finish reason."""
        async for index, answer in self.runs:
            text = self._texts[index]
            delta = text.feed(answer)
            self._note(index, answer)
            if self._echoes[index]:
                delta.text = self._echoes[index] + delta.text
                self._echoes[index] = ""
            yield index, delta, text
            if text.finish_reason is not None:
                self.runs.leave(index)  # the engine knows nothing of stop strings that no channel bounds

    def usage(self) -> CompletionUsage:
        prompts = self.records[:: self._completion.n]  # the first answer to each
        return CompletionUsage(
            prompt_tokens=sum(record.prompt_tokens for record in prompts),
            completion_tokens=sum(len(text.token_ids) for text in self._texts),
            cached_tokens=sum(record.cached_tokens for record in prompts),
        )

    def join_records(self) -> None:
        """At the end, however it came."""
        if len(self.records) > 1:
            joint_record.join(self._whole, self.records)
            usage = self.usage()
            self._whole.prompt_tokens, self._whole.cached_tokens = usage.prompt_tokens, usage.cached_tokens

    def _note(self, index: int, answer: Answer) -> None:
        record, text = self.records[index], self._texts[index]
        record.finish_reason = text.finish_reason
        if isinstance(answer.event, Finished):
            record.prompt_tokens, record.cached_tokens = (
                answer.event.prompt_tokens,
                answer.event.cached_tokens,
            )
            record.completion_tokens = answer.event.completion_tokens

    def _run(
        self, request: Request, index: int, prompt: PromptRequest, options: GenerationOptions, digest: bytes
    ) -> Run:
        service: Service = request.app.state.service
        completion, record = self._completion, self.records[index]
        chat = _as_chat(completion, prompt, options)
        ensemble = service.resolve(completion.model)
        if len(self.records) == 1:
            header = request.headers.get(SESSION_HEADER)
            turn = service.sessions.turn(request.state.caller, ensemble, prompt, header)
        else:  # they would push each other's lease out
            turn = Turn(service.sessions, None, None, None)
        record.session, record.session_by = turn.session, turn.by
        ask = service.ask(chat, digest + index.to_bytes(2), request.state.caller, turn, record)
        return Run(service, chat, ask, turn, f"{record.completion_id}-{index}")


def _as_chat(completion: Completion, prompt: PromptRequest, options: GenerationOptions) -> Chat:
    return Chat(
        model=completion.model,
        prompt=prompt,
        options=options,
        n=1,
        functions=frozenset(),
        stream=completion.stream,
        include_usage=completion.include_usage,
        include_reasoning=True,
        return_token_ids=completion.return_token_ids,
        limit_field="max_tokens",
        grammar_field=None,
        prompt_cache_key=None,
        flex=completion.flex,
    )


def _text_of(prompt: PromptRequest) -> str:
    return prompt.text if prompt.text is not None else tokens.decode(prompt.token_ids or ())
