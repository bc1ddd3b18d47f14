"""Brings a dead model back through Triton's explicit model control, where the server must stay.

Only the model itself is unloaded and loaded: the ensemble in front of it works again by itself. Requests
that were in flight keep the old instance and its shared memory until the server ends (both measured on
Triton 2.51), so a server of our own is rather ended when its engine is lost, see `local_server`.
"""

from __future__ import annotations

import asyncio
import logging

from frontend.triton import Triton
from gpt_oss_triton.errors import ServiceError
from gpt_oss_triton.wire import NORMALIZER_MODEL

log = logging.getLogger(__name__)

_STRAGGLERS_S = 3.0  # requests that the dead process had still been given fail until then


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


async def keep_normalizer(triton: Triton, name: str) -> None:
    """Load the normalizer again whenever one of its processes was found dead, until cancelled. The engines, and the answers
    that run in them, stay.

    Args:
        name: of the server, for the log.
    """
    while True:
        await triton.normalizer_failed.wait()
        log.error("%s: a process of %s has ended; loading it again", name, NORMALIZER_MODEL)
        try:
            await triton.unload_model(NORMALIZER_MODEL)
            await triton.load_model(NORMALIZER_MODEL)
            log.info("%s: %s is loaded again", name, NORMALIZER_MODEL)
        except ServiceError as error:
            log.error(
                "%s: %s cannot be loaded from here, restart Triton: %s", name, NORMALIZER_MODEL, error.message
            )
        await asyncio.sleep(_STRAGGLERS_S)
        triton.normalizer_failed.clear()
