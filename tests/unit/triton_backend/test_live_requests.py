from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gpt_oss_triton.errors import Cancelled, InvalidRequest
from gpt_oss_triton.triton_backend.live_requests import LiveRequests


def stream(request_id: str) -> Any:
    return SimpleNamespace(request_id=request_id)


def test_a_live_id_is_taken_until_its_stream_ends() -> None:
    live, first = LiveRequests(), stream("a")
    live.add(first)
    with pytest.raises(InvalidRequest) as caught:
        live.add(stream("a"))
    assert caught.value.param == "request_id"
    live.discard(stream("a"))  # another stream that was refused must not free the id of this one
    assert live.all() == [first]
    live.discard(first)
    live.add(stream("a"))


def test_a_cancellation_before_the_request_is_kept_for_it_once() -> None:
    live = LiveRequests()
    live.cancel_early("a")
    with pytest.raises(Cancelled):
        live.add(stream("a"))
    live.add(stream("a"))


def test_a_late_cancellation_does_not_hit_the_next_use_of_the_id() -> None:
    live, first = LiveRequests(), stream("a")
    live.add(first)
    live.cancel_early("a")
    live.discard(first)
    live.cancel_early("a")
    live.add(stream("a"))
