"""A native engine on the tiny checkpoint, and a caller that collects what it delivers."""

import itertools
import queue
from collections.abc import Iterator

import pytest

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.native import NativeEngine
from gpt_oss_triton.engine.protocol import (
    EngineEvent,
    EngineRequest,
    NewTokens,
    SequenceFailed,
    SequenceFinished,
)
from gpt_oss_triton.wire import GenerationOptions

SETTINGS = {"max_context": 1024, "kv_cache_gib": 0.05, "max_step_tokens": 64, "threads": 1}
_ids = itertools.count()


class Call:
    """One submitted request: its events as they come."""

    def __init__(self, engine, prompt, *, stop_text=None, **options):
        self.id = f"call-{next(_ids)}"
        self.events: queue.Queue[EngineEvent] = queue.Queue()
        self.seen: list[EngineEvent] = []
        given = {"temperature": 0, "max_tokens": 8, "ignore_eos": True, **options}
        request = EngineRequest(self.id, list(prompt), GenerationOptions(**given), stop_text)
        engine.submit(request, self.events.put)

    def until(self, kind):
        while True:
            event = self.events.get(timeout=60)
            self.seen.append(event)
            if isinstance(event, kind):
                return event

    def end(self):
        return self.until((SequenceFinished, SequenceFailed))

    @property
    def tokens(self):
        return [t for event in self.seen if isinstance(event, NewTokens) for t in event.token_ids]


@pytest.fixture(scope="session")
def make_engine(checkpoint):
    def make(weights="fp32", **settings):
        return NativeEngine.from_settings(EngineSettings(**{**SETTINGS, **settings}), checkpoint(weights))

    return make


@pytest.fixture(scope="module")
def engine(make_engine) -> Iterator[NativeEngine]:
    engine = make_engine()
    yield engine
    engine.close()
