"""Brings a dead engine model back through Triton's explicit model control, where the server must stay.

Only the engine model is unloaded and loaded: the ensemble in front of it works again by itself. Requests
that were in flight keep the old instance and its shared memory until the server ends (both measured on
Triton 2.51), so a server of our own is rather ended, see `local_server`.
"""

from __future__ import annotations

import logging

from frontend.triton import Triton

log = logging.getLogger(__name__)


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
