"""Brings a dead model back through Triton's explicit model control, where the server must stay.

Only the model itself is unloaded and loaded: the ensemble in front of it works again by itself. Requests
that were in flight keep the old instance and its shared memory until the server ends (both measured on
Triton 2.51), so a server of our own is rather ended when its engine is lost, see `local_server`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from frontend.triton import Triton
from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.wire import NORMALIZER_MODEL

log = logging.getLogger(__name__)

_RELOAD_S = 60.0
_STRAGGLERS_S = 3.0  # requests that the dead process had still been given fail until then
_LONGEST_WAIT_S = 60.0  # between two tries


async def restore(triton: Triton, engine: str, ensemble: str) -> None:
    """One attempt. Does nothing while Triton loads the model already.

    Raises:
        ServiceError: Triton refused; the reason is in its log and ours.
    """
    state = await triton.model_state(engine)
    if state == "LOADING":
        return
    log.info("restarting %s (%s)", engine, state or "not loaded")
    if state == "READY":
        await triton.unload_model(engine)
    await triton.load_model(engine)
    if not await triton.model_ready(ensemble):
        await triton.load_model(ensemble)


async def keep_normalizer(triton: Triton) -> None:
    """Load the normalizer again whenever one of its processes was found dead, until cancelled. The engines, and the answers
    that run in them, stay."""
    wait_s = _STRAGGLERS_S
    with contextlib.suppress(ServiceError):  # an earlier shim may have ended between the two
        if await triton.model_state(NORMALIZER_MODEL) == "UNAVAILABLE":
            triton.normalizer_failed.set()
    while True:
        await triton.normalizer_failed.wait()
        log.error("%s: a process of %s has ended; loading it again", triton.url, NORMALIZER_MODEL)
        try:
            async with asyncio.timeout(_RELOAD_S):
                await _reload_normalizer(triton)
        except Exception as error:  # the task's boundary: nothing is answered without it
            why = error.message if isinstance(error, ServiceError) else repr(error)
            log.error("%s: %s cannot be loaded, restart Triton: %s", triton.url, NORMALIZER_MODEL, why)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        else:
            log.info("%s: %s is loaded again", triton.url, NORMALIZER_MODEL)
            await asyncio.sleep(wait_s := _STRAGGLERS_S)
            triton.normalizer_failed.clear()


async def _reload_normalizer(triton: Triton) -> None:
    if await triton.model_state(NORMALIZER_MODEL) == "READY":
        await triton.unload_model(NORMALIZER_MODEL)
    await triton.load_model(NORMALIZER_MODEL)
