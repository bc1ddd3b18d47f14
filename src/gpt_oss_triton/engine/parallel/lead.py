"""Starts an engine's ranks, rank 0 in this process and the others beside it."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import torch

from gpt_oss_triton.engine.batch import BatchBuilder
from gpt_oss_triton.engine.blueprint import Blueprint
from gpt_oss_triton.engine.cache_size import cache_blocks, make_cache, memory_for_cache
from gpt_oss_triton.engine.executor import Executor
from gpt_oss_triton.engine.model import Model
from gpt_oss_triton.engine.parallel.group import Group
from gpt_oss_triton.engine.parallel.messages import Allocate, Imported, Loaded, Ready, Start
from gpt_oss_triton.engine.parallel.pipeline import PipelineExecutor
from gpt_oss_triton.engine.parallel.team import Team, WorkerLost
from gpt_oss_triton.engine.parallel.tensor import TensorExecutor, TensorOperations
from gpt_oss_triton.engine.weights import WeightLoader
from gpt_oss_triton.errors import ConfigurationError
from gpt_oss_triton.kernels.operations import partial_operations_for
from gpt_oss_triton.machine import available_cores

log = logging.getLogger(__name__)

EXCHANGE_S = 100.0  # for one exchange between ranks; less than the shim waits for a step


def start_ranks(blueprint: Blueprint) -> tuple[Executor, int]:
    """Load each rank's part of the checkpoint and make the cache.

    Returns:
        What computes steps on all ranks, and the blocks of its cache.

    Raises:
        ConfigurationError: a rank cannot do its part.
    """
    if blueprint.device.index:
        raise ConfigurationError(
            f"device {str(blueprint.device)!r} names one GPU, and {blueprint.plan.mode} mode spreads over the first "
            f"{blueprint.plan.ranks}: set device to cuda, and CUDA_VISIBLE_DEVICES to choose."
        )
    with tempfile.TemporaryDirectory(prefix="gpt-oss-ranks-") as place:
        meeting = Path(place) / "meeting"
        team = Team(_starts(blueprint, meeting))
        try:
            team.hear(Imported)
            group = Group(meeting, 0, blueprint.plan.ranks, blueprint.device, EXCHANGE_S)
            executor, blocks = _start_lead(blueprint, team, group)
            team.hear(Ready)
        except (WorkerLost, RuntimeError) as error:
            team.close()
            raise ConfigurationError(f"The ranks did not come together: {team.lost or error}") from None
        except BaseException:
            team.close()
            raise
    team.watch(group.abort)
    return executor, blocks


def _starts(blueprint: Blueprint, meeting: Path) -> list[Start]:
    plan, settings, device = blueprint.plan, blueprint.settings, blueprint.device
    assert plan.mode != "single"
    return [
        Start(
            mode=plan.mode,
            rank=rank,
            ranks=plan.ranks,
            part=part,
            checkpoint=str(blueprint.checkpoint),
            device=f"cuda:{rank}" if device.type == "cuda" else "cpu",
            dtype=str(blueprint.dtype).removeprefix("torch."),
            block_size=settings.block_size,
            threads=settings.threads or max(1, available_cores() // plan.ranks),
            meeting=str(meeting),
            timeout_s=EXCHANGE_S,
        )
        for rank, part in list(enumerate(plan.parts))[1:]
    ]


def _start_lead(blueprint: Blueprint, team: Team, group: Group) -> tuple[Executor, int]:
    config, settings, plan = blueprint.config, blueprint.settings, blueprint.plan
    device, dtype, part = blueprint.device, blueprint.dtype, plan.parts[0]
    own = part.narrow(config)
    weights = WeightLoader(blueprint.checkpoint, config, dtype, device, part).load()
    if plan.mode == "tensor":
        inner = partial_operations_for(device, dtype)
        model = Model(own, weights, TensorOperations(inner, group, part, config.vocabulary))
        residual = inner.residual_dtype
    else:
        model = Model(config, weights)
        residual = model.embedding(torch.zeros(1, dtype=torch.int64, device=device)).dtype
    rooms = [memory_for_cache(device, plan.ranks), *(loaded.memory for loaded in team.hear(Loaded))]
    blocks = cache_blocks(settings, config, dtype, plan.parts, rooms)
    team.tell(Allocate(blocks, str(residual).removeprefix("torch.")))
    cache = make_cache(config, part, blocks, settings.block_size, dtype, device)
    builder = BatchBuilder(settings.block_size, device)
    if plan.mode == "tensor":
        return TensorExecutor(model, cache, builder, team, group, plan.parts, config.vocabulary), blocks
    return PipelineExecutor(model, cache, builder, team, group), blocks
