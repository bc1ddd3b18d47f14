from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from frontend.routing.target import Target, check_targets, make_targets
from gpt_oss_triton.config import FrontendSettings
from gpt_oss_triton.errors import ConfigurationError
from tests.unit.frontend.routing.fake_targets import ROOMY, FakeTarget

SMALL, LARGE = "gpt-oss-20b", "gpt-oss-120b"
BOTH = {"small": SMALL, "also-small": SMALL, "large": LARGE}


def settings(models: dict[str, str] = BOTH, **fields: Any) -> FrontendSettings:
    return FrontendSettings(models=models, **fields)


@asynccontextmanager
async def made(of: FrontendSettings) -> AsyncIterator[list[Target]]:
    targets = make_targets(of)
    try:
        yield targets
    finally:
        for triton in {target.watch.triton for target in targets}:
            await triton.close()


@pytest.mark.anyio
async def test_without_targets_there_is_the_one_at_triton_url() -> None:
    async with made(settings({"m": SMALL}, local_triton=True)) as targets:
        (target,) = targets
        assert (target.name, target.ensemble, target.gpus) == ("local", SMALL, 1)
        assert target.watch._local, "its server is ours to end"
    async with made(settings()) as targets:
        assert [target.name for target in targets] == [f"local/{SMALL}", f"local/{LARGE}"]


@pytest.mark.anyio
async def test_targets_share_a_connection_for_each_url() -> None:
    servers = [
        {"name": "a", "url": "one:8001"},
        {"name": "b", "url": "two:8001", "ensembles": [SMALL]},
        {"name": "c", "url": "two:8001", "ensembles": [LARGE], "gpus": 4},
    ]
    async with made(settings(targets=servers, local_triton=True)) as targets:
        assert [(target.name, target.ensemble, target.gpus) for target in targets] == [
            (f"a/{SMALL}", SMALL, 1),
            (f"a/{LARGE}", LARGE, 1),
            ("b", SMALL, 1),
            ("c", LARGE, 4),
        ]
        one, also_one, two, also_two = (target.watch.triton for target in targets)
        assert one is also_one
        assert two is also_two
        assert one is not two
        assert not any(target.watch._local for target in targets)
        assert [target.watch.target for target in targets] == [target.name for target in targets]


@pytest.mark.parametrize(
    ("servers", "complaint"),
    [
        ([{"name": "a", "url": "x:1", "ensembles": ["other"]}], "a has 'other'"),
        ([{"name": "a", "url": "x:1", "ensembles": [SMALL]}], f"none has {LARGE}"),
        ([{"name": "a", "url": "x:1"}, {"name": "a", "url": "y:1"}], f"a has {SMALL} twice"),
        ([{"name": "a", "url": "x:1"}, {"name": "b", "url": "x:1"}], f"x:1 has {SMALL} twice"),
    ],
)
def test_what_is_unclear_is_refused(servers: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        check_targets(settings(targets=servers))


def test_what_is_clear_is_not() -> None:
    check_targets(settings())
    check_targets(settings(targets=[{"name": "a", "url": "x:1"}, {"name": "b", "url": "y:1"}]))
    one_name = [{"name": "a", "url": "x:1", "ensembles": [e]} for e in (SMALL, LARGE)]
    check_targets(settings(targets=one_name))


def test_a_report_goes_to_the_capacity_first_and_then_to_those_who_wait() -> None:
    target = FakeTarget("one")
    seen: list[Any] = []
    target.on_report = lambda: seen.append((target.capacity.reported, target.prefill_tokens_sent))
    target.prefill_tokens_sent = 500
    target.report(sequence=7)
    assert seen == [(target.load, 0)]


def test_the_speed_of_the_last_prefill_is_remembered_while_there_is_none() -> None:
    target = FakeTarget("one")
    target.report(prefill_tokens_per_s=123.0)
    target.report(prefill_tokens_per_s=0.0)
    assert target.prefill_tokens_per_s == 123.0
    assert target.life == (ROOMY.pid, ROOMY.started)
