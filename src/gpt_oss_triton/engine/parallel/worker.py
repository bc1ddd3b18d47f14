"""A rank of an engine beside rank 0: `python -m gpt_oss_triton.engine.parallel.worker DESCRIPTOR`.

It does what comes through its channel until that ends. It ends at once when its standard input does: rank 0 holds
the other end, so this process never outlives it, whatever it waits for.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from gpt_oss_triton.engine.batch import BatchBuilder
from gpt_oss_triton.engine.cache_size import make_cache, memory_for_cache
from gpt_oss_triton.engine.model import Layers, Model
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel.group import Group, Hidden
from gpt_oss_triton.engine.parallel.messages import (
    Allocate,
    Channel,
    Failed,
    Gone,
    Imported,
    Loaded,
    Ready,
    Start,
)
from gpt_oss_triton.engine.parallel.pipeline import PipelineWorker
from gpt_oss_triton.engine.parallel.tensor import TensorOperations, TensorWorker
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.kernels.operations import operations_for, partial_operations_for

log = logging.getLogger(__name__)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal's group: rank 0 says when to end
    threading.Thread(target=_end_with_rank_0, daemon=True).start()
    channel = Channel(Connection(int(sys.argv[1])))
    try:
        start = channel.receive()
        assert isinstance(start, Start)
        logging.basicConfig(
            level=logging.INFO, format=f"rank {start.rank}: %(levelname)s %(name)s: %(message)s"
        )
        serve(channel, start)
    except Gone:
        return
    except ConfigurationError as error:
        channel.send(Failed(str(error)))
    except Exception as error:  # process boundary: rank 0 is told, the log has the rest
        log.exception("this rank ends")
        channel.send(Failed(f"{type(error).__name__}: {error}".splitlines()[0]))


@torch.inference_mode()
def serve(channel: Channel, start: Start) -> None:
    """
    Raises:
        Gone: rank 0 is done.
        ConfigurationError: this rank cannot do its part.
    """
    torch.set_num_threads(start.threads)
    device = torch.device(start.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        # A GPU that cannot be used is told before the others wait at the meeting.
        torch.zeros(1, device=device)
    channel.send(Imported())
    group = Group(Path(start.meeting), start.rank, start.ranks, device, start.timeout_s)
    worker = _load(channel, start, group, device)
    channel.send(Ready())
    while True:
        worker.do(channel.receive())


def _load(
    channel: Channel, start: Start, group: Group, device: torch.device
) -> TensorWorker | PipelineWorker:
    directory, part, dtype = Path(start.checkpoint), start.part, getattr(torch, start.dtype)
    config = ModelConfig.from_checkpoint(directory)
    own = part.narrow(config)
    loader = WeightLoader(directory, config, dtype, device, part)
    model: Model | Layers
    if start.mode == "tensor":
        operations = TensorOperations(partial_operations_for(device, dtype), group, part, config.vocabulary)
        model = Model(own, loader.load(), operations)
    else:
        model = Layers(config, loader.layers(), operations_for(device, dtype), part.first)
    channel.send(Loaded(memory_for_cache(device, start.ranks)))
    allocate = channel.receive()
    assert isinstance(allocate, Allocate)
    cache = make_cache(config, part, allocate.blocks, start.block_size, dtype, device)
    builder = BatchBuilder(start.block_size, device)
    hidden = Hidden(config.hidden, getattr(torch, allocate.residual), device)
    if isinstance(model, Layers):
        return PipelineWorker(model, cache, builder, group, hidden)
    return TensorWorker(model, cache, builder, group, hidden, part.of(config.vocabulary).start)


def _end_with_rank_0() -> None:
    os.read(sys.stdin.fileno(), 1)  # nobody writes: it returns at the end of it
    os._exit(0)  # whatever the other threads wait for


if __name__ == "__main__":
    main()
