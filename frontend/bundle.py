"""The debug bundle: one zip from which someone who cannot reach the server can tell what is wrong with it.

It holds what its parts name and nothing else, and secrets that are known, or look like some, are masked in
whatever the parts have written. No part holds a prompt, an answer, a header or a key to begin with.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import time
import traceback
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from frontend import processes, stacks, system_facts
from frontend.snapshot import kv_map, settings_in_use, snapshot
from gpt_oss_triton import __version__
from gpt_oss_triton.errors import RateLimited
from gpt_oss_triton.telemetry import logs
from gpt_oss_triton.telemetry.redaction import MASK, hide, redact

if TYPE_CHECKING:
    from frontend.service import Service

EVERY_S = 10.0  # the shortest time between two bundles
MAX_PART_BYTES = 2 * 1024 * 1024
_TRITON_LOG_BYTES = 256 * 1024
_SHORTEST_SECRET = 8  # of a variable's value; shorter ones are rather switches
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIAL|AUTHORIZATION")
_IS_PLACE = re.compile(r"_(FILE|PATH|DIR)$")  # of a secret, which an operator has to read in the log
_LOOKS_SECRET = re.compile(
    r"(?i:bearer\s+)[\w.~+/=-]{8,}|\bsk-[\w-]{16,}|\bhf_\w{16,}|(?<=://)[^\s/@:]*:[^\s/@]+(?=@)"
)

README = """\
Debug bundle of gpt-oss-triton {version}, made at {time} UTC.

README.txt         this
snapshot.json      the server's state, as /stats shows it: requests, latency of the last minute, admission,
                   routing, sessions, caches, engines with their newest reports, GPUs, memory
settings.json      every setting of the shim, its value and where that came from (argument, environment,
                   file, profile, default); secrets are masked
kv.json            the KV cache of each engine in blocks and bytes: used, cached, leased, free, and promised
                   by the shim
processes.json     memory of the shim, of tritonserver and of each of its models, where they run here
system.json        machine, limits, descriptors, connections by state
versions.json      installed packages among those that the project asks for
metrics.txt        /metrics as Prometheus reads it
log.txt            the newest lines of the shim's log, as far as memory keeps them
tasks.txt          where each asyncio task waits; tasks at the same place are counted together
threads.txt        where each thread was
tritonserver-N.log the end of the log of the tritonserver with process id N, if it runs here and logs to a file

Times are in seconds, sizes in bytes. A part longer than {limit} bytes has lost its beginning. A part that
could not be made says why. No prompts, answers, headers or keys are in here; what looked like a secret reads
{mask}.

Where to look first
  requests are refused    snapshot.json: draining, admission.decisions, admission.level, engines[].limit
  503, not ready          snapshot.json: problems, engines[].problem; then log.txt and tritonserver-N.log
  slow first token        snapshot.json: latency, engines[].load.waiting and queue_wait_s, event_loop_lag_s
  slow tokens             snapshot.json: engines[].load.running, step_age_s; system.json: load_average
  memory grows            processes.json, kv.json, snapshot.json: sessions, response_cache
  few cached tokens       snapshot.json: prefix_cache, prompt_cache.misses, routing.decisions
  it hangs                tasks.txt, threads.txt, engines[].silence_s and step_age_s
  not as configured       settings.json: origin
"""


class Bundles:
    """Makes bundles, one at a time and not too often. Belongs to the event loop.

    Secrets in this process's environment are masked from its beginning, also in the log.
    """

    def __init__(
        self,
        service: Service,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = service
        self._environment = environment
        self._clock = clock
        self._busy = False
        self._next = clock()
        for name, value in environment.items():
            if (
                len(value) >= _SHORTEST_SECRET
                and _SECRET_NAME.search(name.upper())
                and not _IS_PLACE.search(name.upper())
            ):
                hide(value)

    async def make(self) -> bytes:
        """A zip. Raises RateLimited while another one is made, and for `EVERY_S` seconds after it."""
        wait_s = EVERY_S if self._busy else self._next - self._clock()
        if wait_s > 0:
            raise RateLimited("A bundle was asked for a moment ago.", retry_after_s=wait_s)
        self._busy = True
        try:
            return await asyncio.to_thread(_zipped, await self._parts())
        finally:
            self._busy = False
            self._next = self._clock() + EVERY_S

    async def _parts(self) -> dict[str, Callable[[], str]]:
        """File name -> what makes its text, in a thread; what only the event loop may read is read here."""
        service = self._service
        state = snapshot(service)
        metrics = asyncio.create_task(service.telemetry.exposition("", state))
        settings = settings_in_use(service)
        kv = kv_map(service)
        loads = [target.load for target in service.targets if target.load is not None]
        tasks = stacks.task_stacks()
        await asyncio.wait({metrics})
        parts: dict[str, Callable[[], str]] = {
            "README.txt": _readme,
            "snapshot.json": lambda: _json(state),
            "settings.json": lambda: _json(settings),
            "kv.json": lambda: _json(kv),
            "processes.json": lambda: _json(processes.memory(loads)),
            "system.json": lambda: _json(system_facts.facts(self._environment)),
            "versions.json": lambda: _json(system_facts.versions()),
            "metrics.txt": lambda: (metrics.result() or (b"metrics are switched off", ""))[0].decode(),
            "log.txt": lambda: "\n".join(logs.recent_lines()),
            "tasks.txt": lambda: tasks,
            "threads.txt": stacks.thread_stacks,
        }
        for pid in processes.logging_servers(loads):
            parts[f"tritonserver-{pid}.log"] = partial(processes.log_tail, pid, _TRITON_LOG_BYTES)
        return parts


def _zipped(parts: Mapping[str, Callable[[], str]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, make in parts.items():
            try:
                text = make()
            except Exception as error:  # what is broken is what the bundle is for: the other parts still come
                place = "".join(traceback.format_tb(error.__traceback__))
                text = f"this part could not be made: {type(error).__name__}\n{place}"
            archive.writestr(name, masked(text).encode(errors="replace")[-MAX_PART_BYTES:])
    return buffer.getvalue()


def masked(text: str) -> str:
    """The text without the secrets that the server knows, and without what looks like one."""
    return _LOOKS_SECRET.sub(MASK, redact(text))


def _readme() -> str:
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    return README.format(version=__version__, time=made, limit=MAX_PART_BYTES, mask=MASK)


def _json(content: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
