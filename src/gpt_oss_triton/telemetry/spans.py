"""A finished request as finished spans, with the times that the record has.

::

    chat_completion                the server's span, under the caller's where there is one
    ├── admission                  from the queue's door to the decision; a moment, where there was no queue
    └── chat {model}               from the choice of a target to the last token; attempts are its events
        ├── prompt_building        in the normalizer
        ├── queue                  in the engine; where it had no last word, part of prefill
        ├── prefill
        └── decode

No text of a prompt or an answer, and no key, gets into any of them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from itertools import pairwise

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from gpt_oss_triton import __version__
from gpt_oss_triton.telemetry import genai, span_attributes
from gpt_oss_triton.telemetry.labels import UNKNOWN
from gpt_oss_triton.telemetry.record import RequestRecord
from gpt_oss_triton.telemetry.span_attributes import Attributes

_SCOPE = InstrumentationScope("gpt_oss_triton", __version__)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class SpanTree:
    """The spans of one request for an answer that has ended."""

    def __init__(self, record: RequestRecord, resource: Resource) -> None:
        self._record = record
        self._resource = resource

    def spans(self) -> list[ReadableSpan]:
        """Parents first."""
        record, trace = self._record, self._record.trace
        end = record.finished or record.started
        root = _context(trace.trace_id, trace.span_id)
        caller = None if trace.parent_id is None else _context(trace.trace_id, trace.parent_id, remote=True)
        name, attributes = genai.ROOT_SPANS[record.path], span_attributes.of_request(record)
        spans = [self._span(name, root, caller, record.started, end, attributes, SpanKind.SERVER)]
        if record.admission is not None:
            decided = record.admitted or end
            begin = record.queued or decided  # most are let in at once
            attributes = span_attributes.of_admission(record)
            spans.append(self._span("admission", self._new(), root, begin, decided, attributes))
        if record.attempts:
            spans += self._generation(root, end)
        return spans

    def _generation(self, root: SpanContext, end: float) -> Iterator[ReadableSpan]:
        record, context = self._record, self._new()
        if record.finish_reason is not None:  # a slow reader takes longer than the model did
            end = record.last_token or end
        name = genai.generation_span(record.path, record.model or UNKNOWN)
        attributes = span_attributes.of_generation(record)
        events = [
            Event("attempt", span_attributes.of_attempt(number, attempt), _ns(attempt.began))
            for number, attempt in enumerate(record.attempts, 1)
        ]
        began = record.attempts[0].began
        yield self._span(name, context, root, began, end, attributes, SpanKind.CLIENT, events)
        prompt = record.prompt
        if prompt is not None and prompt.started:
            attributes = span_attributes.of_prompt(prompt)
            yield self._phase("prompt_building", context, prompt.started, prompt.finished, attributes)
        yield from self._phases(context, end)

    def _phases(self, parent: SpanContext, end: float) -> Iterator[ReadableSpan]:
        timings = self._record.timings
        if timings is None:  # the engine had no last word: what the shim saw
            yield from self._seen_phases(parent, end)
            return
        steps = (timings.arrived, timings.scheduled, timings.first_token, timings.finished or None)
        for name, (begin, until) in zip(("queue", "prefill", "decode"), pairwise(steps), strict=True):
            if begin is not None:
                yield self._phase(name, parent, begin, end if until is None else until, {})

    def _seen_phases(self, parent: SpanContext, end: float) -> Iterator[ReadableSpan]:
        accepted, first_token = self._record.accepted, self._record.first_token
        if accepted is not None:
            until = end if first_token is None else first_token
            yield self._phase("prefill", parent, accepted, until, {genai.WITH_QUEUE: True})
        if first_token is not None:
            yield self._phase("decode", parent, first_token, end, {})

    def _phase(
        self, name: str, parent: SpanContext, begin: float, end: float, attributes: Attributes
    ) -> ReadableSpan:
        return self._span(name, self._new(), parent, begin, end, attributes)

    def _new(self) -> SpanContext:
        return _context(self._record.trace.trace_id, secrets.randbits(64) or 1)

    def _span(
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        begin: float,
        end: float,
        attributes: Attributes,
        kind: SpanKind = SpanKind.INTERNAL,
        events: Sequence[Event] = (),
    ) -> ReadableSpan:
        return ReadableSpan(
            name=name,
            context=context,
            parent=parent,
            resource=self._resource,
            attributes=attributes,
            events=events,
            kind=kind,
            status=Status() if kind is SpanKind.INTERNAL else _status(self._record),
            start_time=_ns(begin),
            end_time=_ns(max(begin, end)),  # another machine's clock may be behind ours
            instrumentation_scope=_SCOPE,
        )


def _status(record: RequestRecord) -> Status:
    """A caller's mistake is no error of the server's, by OpenTelemetry's rules for HTTP."""
    if record.outcome != "error" or 400 <= record.status < 500:
        return Status()
    return Status(StatusCode.ERROR, record.error)


def _context(trace_id: int, span_id: int, *, remote: bool = False) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=remote, trace_flags=_SAMPLED)


def _ns(unix_s: float) -> int:
    return int(unix_s * 1e9)
