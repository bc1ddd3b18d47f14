"""Whatever ten thousand requests bring in, the shim keeps no more than it says: metric series, tables, memory."""

from __future__ import annotations

import http.client
import io
import json
import random
import re
import time
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import httpx
import psutil
import pytest

from frontend.bundle import EVERY_S
from frontend.caller import digest_of
from frontend.routing.prefix_index import MAX_POINTS
from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.leases import MAX_LEASES
from gpt_oss_triton.launch.triton_server import TritonServer
from tests.e2e.shim_process import ShimProcess
from tests.e2e.triton_direct_client import ENSEMBLE

pytestmark = pytest.mark.slow

PATH = "/v1/chat/completions"
REQUESTS = 10_000
WARM_UP = 1_000  # of them, after which memory is measured for the first time
CONNECTIONS = 8
MARK = "stray-"  # in everything that is made up

# The bounds. Series: of one model on one target; each further pair of them has about 170 of its own.
MAX_SERIES = 400
MAX_GROWTH_BYTES = 16 * 2**20
MAX_SESSIONS = 50
MAX_ANSWERS = 20
MAX_QUEUE = 8
MAX_BODY_BYTES = 20_000
MAX_HEADER_BYTES = 16_000

KEYS = {"open": "", "slow": "requests_per_minute = 20", "narrow": "concurrency = 1\ntokens_per_minute = 3000"}
EXPECTED = {
    "path": {404}, "method": {405}, "model page": {404}, "figures": {200, 503}, "key": {401}, "model": {404},
    "body": {400, 415}, "size": {413, 431}, "limited": {200, 429}, "good": {200, 429},
}  # fmt: skip


@dataclass
class Call:
    kind: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None = None
    leaves: bool = False  # before the answer has ended


@dataclass
class Seen:
    """What the clients saw: statuses by kind of request, and of all that asked for an answer; how many left early."""

    statuses: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    chats: Counter[int] = field(default_factory=Counter)
    left: int = 0


class Calls:
    """Requests that one would not think of, the same ones for one seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        makers = {
            self._no_such_path: 15, self._another_method: 5, self._model_page: 8, self._figures: 3,
            self._wrong_key: 18, self._no_such_model: 20, self._bad_body: 12, self._too_large: 3,
            self._limited: 11, self._good: 4, self._again: 1,
        }  # fmt: skip
        self._makers = random.Random(seed).choices(list(makers), list(makers.values()), k=REQUESTS)

    def __iter__(self) -> Iterator[Call]:
        return (make() for make in self._makers)

    def _no_such_path(self) -> Call:
        path = "/" + "/".join(self._name() for _ in range(self._dice.randrange(1, 4)))
        return Call(
            "path", self._dice.choice(("GET", "POST")), f"{path}?{self._name()}", self._headers("open")
        )

    def _another_method(self) -> Call:
        method = self._dice.choice(("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"))
        return Call("method", method, self._dice.choice((PATH, "/stats", "/metrics")), self._headers("open"))

    def _model_page(self) -> Call:
        return Call("model page", "GET", f"/v1/models/{self._name()}", self._headers("open"))

    def _figures(self) -> Call:
        path = self._dice.choice(("/metrics", "/stats", "/memory_stats", "/readyz", "/v1/models"))
        accept = self._dice.choice((f"application/openmetrics-text;version={self._name()}", "*/*"))
        return Call("figures", "GET", path, self._headers("open") | {"accept": accept})

    def _wrong_key(self) -> Call:
        headers = self._headers("open") | {"authorization": f"Bearer {self._name()}"}
        path = self._dice.choice((PATH, "/stats", f"/admin/{self._name()}", f"/{self._name()}"))
        return Call("key", "POST", path, headers, self._chat())

    def _no_such_model(self) -> Call:
        return Call("model", "POST", PATH, self._headers("open"), self._chat(model=self._name()))

    def _bad_body(self) -> Call:
        headers = self._headers("open")
        match self._dice.randrange(4):
            case 0:
                return Call("body", "POST", PATH, headers, self._chat()[:-2])
            case 1:
                return Call("body", "POST", PATH, headers, self._chat(**{self._name(): self._name()}))
            case 2:
                return Call("body", "POST", PATH, headers, self._chat(temperature=self._name()))
            case _:
                headers["content-type"] = f"text/{self._name()}"
                return Call("body", "POST", PATH, headers, self._chat())

    def _too_large(self) -> Call:
        headers = self._headers("open")
        if self._dice.random() < 0.5:
            return Call("size", "POST", PATH, headers, self._chat(user=MAX_BODY_BYTES * "x"))
        return Call("size", "POST", PATH, headers | {self._name(): MAX_HEADER_BYTES * "x"}, self._chat())

    def _limited(self) -> Call:
        body = self._chat(max_tokens=1, service_tier=self._dice.choice(("auto", "flex")))
        return Call("limited", "POST", PATH, self._headers(self._dice.choice(("slow", "narrow"))), body)

    def _good(self) -> Call:
        fields = {"stream": self._dice.random() < 0.5, "temperature": self._dice.choice((0, 1))}
        body = self._chat(max_tokens=self._dice.choice((1, 2, 40)), **fields)
        leaves = fields["stream"] is True and self._dice.random() < 0.3
        return Call("good", "POST", PATH, self._headers("open"), body, leaves)

    def _again(self) -> Call:
        """What the response cache has."""
        messages = [{"role": "user", "content": "the same"}]
        body = self._chat(messages=messages, temperature=0, max_tokens=1, prompt_cache_key=None)
        return Call("good", "POST", PATH, self._headers("open"), body)

    def _chat(self, **fields: Any) -> bytes:
        messages = [
            {"role": self._dice.choice(("user", "system")), "content": self._name()} for _ in range(2)
        ]
        key = self._dice.choice((self._name(), None))
        body = {"model": ENSEMBLE, "messages": messages, "prompt_cache_key": key, "user": self._name()}
        return json.dumps(body | fields).encode()

    def _headers(self, key: str) -> dict[str, str]:
        """A good key, and among other things what the shim reads, well formed or not."""
        trace = f"00-{self._dice.getrandbits(128):032x}-{self._dice.getrandbits(64):016x}-01"
        made_up = {
            "x-session-id": self._name(),
            "x-request-id": self._dice.choice((self._name(), f"{self._name()} {{}}", "x" * 500)),
            "traceparent": self._dice.choice((trace, trace[:-1], self._name())),
            "user-agent": self._name(),
            "cookie": f"{self._name()}={self._name()}",
            self._name(): self._name(),
        }
        some = {name: value for name, value in made_up.items() if self._dice.random() < 0.6}
        return {**some, "authorization": f"Bearer key-{key}", "content-type": "application/json"}

    def _name(self) -> str:
        return f"{MARK}{self._dice.getrandbits(40):x}"


@pytest.fixture(scope="module")
def shim(triton: TritonServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShimProcess]:
    """With small bounds, and with a collector that is never there: traces that wait count as well."""
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    keys.write_text(_keys_file())
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        with ShimProcess(
            triton,
            api_keys_file=str(keys),
            admin_key="key-admin",
            metrics_legacy_names=True,
            max_sessions=MAX_SESSIONS,
            response_cache_entries=MAX_ANSWERS,
            max_queue=MAX_QUEUE,
            max_body_bytes=MAX_BODY_BYTES,
            max_header_bytes=MAX_HEADER_BYTES,
        ) as process:
            yield process


def _keys_file() -> str:
    return "".join(
        f'[[key]]\nname = "{name}"\nsha256 = "{digest_of(f"key-{name}".encode()).hex()}"\n{limits}\n'
        for name, limits in KEYS.items()
    )


def send(shim: ShimProcess, calls: Iterator[Call], count: int, seen: Seen) -> None:
    """The next `count` calls, on a few connections that are kept."""
    waiting = iter([next(calls) for _ in range(count)])

    def client(number: int) -> list[tuple[Call, int]]:
        connection = http.client.HTTPConnection(shim.url.removeprefix("http://"), timeout=60)
        answered = []
        for call in waiting:
            connection.request(call.method, call.path, call.body, call.headers)
            answer = connection.getresponse()
            answered.append((call, answer.status))
            if call.leaves:
                connection.close()
            else:
                answer.read()
        connection.close()
        return answered

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for call, status in chain.from_iterable(pool.map(client, range(CONNECTIONS))):
            seen.statuses[call.kind][status] += 1
            seen.chats[status] += (call.method, call.path) == ("POST", PATH)
            seen.left += call.leaves and status == 200


def stats(shim: ShimProcess) -> dict[str, Any]:
    answer = httpx.get(f"{shim.url}/stats", headers={"authorization": "Bearer key-admin"})
    record: dict[str, Any] = answer.json()
    return record


def task_count(shim: ShimProcess) -> int:
    """asyncio's tasks in the shim, by its bundle."""
    headers = {"authorization": "Bearer key-admin"}
    while (answer := httpx.get(f"{shim.url}/admin/debug/bundle", headers=headers)).status_code == 429:
        time.sleep(EVERY_S / 20)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        return sum(map(int, re.findall(r"^(\d+) tasks?:", archive.read("tasks.txt").decode(), re.MULTILINE)))


def is_idle(state: dict[str, Any]) -> bool:
    loads = [engine["load"] for engine in state["engines"]]
    return not state["requests"]["in_flight"] and not any(load["blocks_used"] for load in loads)


@dataclass(frozen=True)
class Cost:
    """What the shim holds of this machine."""

    rss: int
    descriptors: int
    tasks: int

    @classmethod
    def of(cls, shim: ShimProcess) -> Cost:
        process = psutil.Process(shim.process.pid)
        return cls(process.memory_info().rss, process.num_fds(), task_count(shim))


@dataclass(frozen=True)
class Storm:
    """What was measured: by the clients, after the first part of the requests and after all of them."""

    seen: Seen
    before: Cost
    after: Cost


@pytest.fixture(scope="module")
def storm(shim: ShimProcess) -> Storm:
    seen, calls = Seen(), iter(Calls(seed=7))
    send(shim, calls, WARM_UP, seen)
    before = Cost.of(shim)
    send(shim, calls, REQUESTS - WARM_UP, seen)
    deadline = time.monotonic() + 30
    while not is_idle(stats(shim)):
        assert time.monotonic() < deadline, "requests that nobody waits for any more still run"
        time.sleep(0.1)
    return Storm(seen, before, Cost.of(shim))


def test_every_request_ends_once_and_as_it_should(storm: Storm, shim: ShimProcess) -> None:
    seen = storm.seen
    assert sum(statuses.total() for statuses in seen.statuses.values()) == REQUESTS
    assert {kind: set(statuses) - EXPECTED[kind] for kind, statuses in seen.statuses.items()} == {
        kind: set() for kind in EXPECTED
    }
    assert seen.statuses["good"][200] >= 300
    requests = stats(shim)["requests"]
    assert requests["in_flight"] == 0
    assert requests["accepted"] == requests["ok"] + requests["error"] + requests["cancelled"]
    assert requests["accepted"] + requests["rejected"] == seen.chats.total()
    assert requests["ok"] + requests["cancelled"] == seen.chats[200]
    assert 0 < requests["cancelled"] <= seen.left
    assert requests["rejected"] == seen.chats[429]


def test_metrics_have_few_series_and_nothing_that_a_client_wrote(storm: Storm, shim: ShimProcess) -> None:
    text = httpx.get(f"{shim.url}/metrics").text
    series = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(series) <= MAX_SERIES
    assert MARK not in text
    assert MARK not in json.dumps(stats(shim))


def test_tables_are_bounded(storm: Storm, shim: ShimProcess) -> None:
    state = stats(shim)
    sessions, answers, admission = state["sessions"], state["response_cache"], state["admission"]
    assert sessions["created_total"] > 3 * MAX_SESSIONS
    assert 0 < sessions["active"] <= MAX_SESSIONS
    assert answers["misses"] > 5 * MAX_ANSWERS
    assert answers["hits"] > 0
    assert answers["entries"] == MAX_ANSWERS
    assert 0 < state["routing"]["prefix_entries"] <= admission["decisions"]["admitted"] * MAX_POINTS
    assert (admission["queued"], admission["level"]) == (0, 0)
    assert admission["bookings"] <= 100
    (engine,) = state["engines"]
    assert (engine["in_flight"], engine["blocks_reserved"]) == (0, 0)
    load = engine["load"]
    assert (load["running"], load["waiting"], load["blocks_used"]) == (0, 0, 0)
    assert load["leases"] <= MAX_LEASES
    assert load["blocks_leased"] <= EngineSettings().session_watermark * load["blocks_total"]


def test_memory_is_bounded(storm: Storm) -> None:
    grown = storm.after.rss - storm.before.rss
    print(f"\n{REQUESTS - WARM_UP} requests: {grown / 2**20:+.1f} MiB, {storm.after}")  # noqa: T201
    assert grown < MAX_GROWTH_BYTES


def test_nothing_is_left_behind(storm: Storm, shim: ShimProcess) -> None:
    assert storm.after.tasks <= storm.before.tasks
    assert storm.after.descriptors <= storm.before.descriptors + CONNECTIONS
    lines = [json.loads(line) for line in shim.log().splitlines()]
    unexpected = [
        line
        for line in lines
        if line["logger"] == "asyncio"  # such as a task whose exception nobody has taken
        or "exception" in line
        or (
            line["level"] == "error" and not line["logger"].startswith("opentelemetry")
        )  # it has no collector
    ]
    assert unexpected == []
