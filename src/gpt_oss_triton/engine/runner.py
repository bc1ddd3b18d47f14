"""The model and its cache: computes a step's chunks and samples their next tokens."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch

from gpt_oss_triton.config import EngineSettings
from gpt_oss_triton.engine.alone import start_alone
from gpt_oss_triton.engine.batch import Segment
from gpt_oss_triton.engine.blueprint import Blueprint
from gpt_oss_triton.engine.cache_size import GIB
from gpt_oss_triton.engine.executor import Executor
from gpt_oss_triton.engine.model_config import ModelConfig
from gpt_oss_triton.engine.parallel.lead import start_ranks
from gpt_oss_triton.engine.parallel.plan import choose_plan
from gpt_oss_triton.engine.sampler import Outcome, Place, RowOutcome, Rows, Sampled, sample
from gpt_oss_triton.engine.scheduler import Chunk
from gpt_oss_triton.errors import ConfigurationError

log = logging.getLogger(__name__)

_NVIDIA_DRIVER = Path("/dev/nvidiactl")


class Runner:
    """Owns weights and cache, on however many devices. Used by one thread.

    Attributes:
        plan: how the model spreads over the devices.
        device: of rank 0, where samples are drawn.
        block_bytes: of one KV block, all devices together.
    """

    def __init__(self, blueprint: Blueprint, executor: Executor, blocks: int) -> None:
        """`blocks`: of the executor's cache."""
        self.config = blueprint.config
        self.plan = blueprint.plan
        self.dtype = blueprint.dtype
        self.device = blueprint.device
        self.block_size = blueprint.settings.block_size
        self.blocks = blocks
        self.block_bytes = self.block_size * sum(
            part.token_bytes(self.config, self.dtype.itemsize) for part in self.plan.parts
        )
        self._executor = executor
        self._current = _current(self.device)

    @classmethod
    def from_checkpoint(cls, directory: Path, settings: EngineSettings) -> Runner:
        """Load weights, then size the cache by what memory is left.

        Raises:
            ConfigurationError: the checkpoint or the settings cannot be served.
        """
        config = ModelConfig.from_checkpoint(directory)
        device = _device(settings)
        dtype = _dtype(settings, config, device)
        plan = choose_plan(settings, config, device, dtype)
        log.info("%s mode on %d of %s: %s", plan.mode, plan.ranks, device.type, plan.reason)
        blueprint = Blueprint(directory, config, settings, plan, device, dtype)
        try:
            start = start_alone if plan.mode == "single" else start_ranks
            with _current(device):
                runner = cls(blueprint, *start(blueprint))
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise ConfigurationError(
                f"{directory.name} in {dtype} and its cache do not fit into the memory of {device}: {error}"
            ) from None
        log.info(
            "%s on %s in %s; cache %d blocks of %d tokens, %.2f GiB",
            directory.name, device, dtype, runner.blocks, settings.block_size, runner.blocks * runner.block_bytes / GIB,
        )  # fmt: skip
        return runner

    @property
    def lost(self) -> str | None:
        """Why nothing can run any more; None while all is well."""
        return self._executor.lost

    def close(self) -> None:
        """End what runs beside this process."""
        self._executor.close()

    @torch.inference_mode()
    def launch(self, chunks: list[Chunk], before: Flight | None = None) -> Flight:
        """Compute the chunks, write their keys and values, and sample a token for each that `samples`.

        Computing a chunk twice writes the same cache slots again, so a failed step can be repeated.

        Args:
            before: the step whose end has not been waited for; tokens that it samples may be read by this one. Where a
                draw waits for these, nothing is sampled: call `sample` when the outcomes of `before` have been taken.
        """
        began = time.monotonic()
        with self._current:
            carried = {} if before is None else before.sampled_in
            segments = [_segment(chunk, carried) for chunk in chunks]
            hidden = self._executor.forward(segments, None if before is None else before.rows.tokens)
        flight = Flight(chunks, hidden, began)
        return flight if before is not None and flight.waits else self.sample(flight)

    @torch.inference_mode()
    def sample(self, flight: Flight) -> Flight:
        """Launch what a launched step still has to sample."""
        places = [place for chunk in flight.sampling for place in _places(chunk)]
        with self._current:
            flight.sampled = sample(flight.hidden, places, self._executor.vocabulary)
        return flight


@dataclass(slots=True)
class Flight:
    """A launched step, whose device may still compute it.

    Attributes:
        hidden: [rows, hidden], a row for every token of those chunks that sample, drafts included. Good until the next
            step is launched.
        began: monotonic seconds.
        sampled: a token for each of the rows; None until that is launched.
    """

    chunks: list[Chunk]
    hidden: torch.Tensor
    began: float
    sampled: Rows | None = None

    @property
    def waits(self) -> bool:
        """Not all of its draws can be launched while another step's are unknown."""
        return any(chunk.sequence.sampling.waits for chunk in self.sampling)

    @property
    def sampling(self) -> list[Chunk]:
        return [chunk for chunk in self.chunks if chunk.samples]

    @property
    def rows(self) -> Rows:
        assert self.sampled is not None
        return self.sampled

    def outcomes(self) -> list[Outcome]:
        """Wait for the end of the step: what its sampling chunks' sequences get."""
        rows = iter(self.rows.outcomes())
        return [_outcome(c.draft, list(islice(rows, len(c.draft) + 1))) for c in self.sampling]

    @property
    def sampled_in(self) -> dict[int, int]:
        """Of each sequence, by its `id`: in which row its next token is sampled, in a step without drafts."""
        return {id(chunk.sequence): row for row, chunk in enumerate(self.sampling)}


def _places(chunk: Chunk) -> list[Place]:
    """Of the rows that are computed for it."""
    sequence, drafted = chunk.sequence, len(chunk.draft)
    first = chunk.start + chunk.tokens - drafted - sequence.prompt_tokens
    return [Place(sequence.sampling, first + n, ahead=n) for n in range(drafted + 1)]


def _segment(chunk: Chunk, sampled_in: dict[int, int]) -> Segment:
    """`sampled_in`: where tokens are sampled that nobody knows yet."""
    s, end = chunk.sequence, chunk.start + chunk.tokens
    token_ids = [*s.token_ids[chunk.start : end - len(chunk.draft)], *chunk.draft]
    carried = None
    if len(token_ids) < chunk.tokens:
        carried = sampled_in[id(s)]
        token_ids.append(0)
    return Segment(
        token_ids, chunk.start, s.blocks, s.window_blocks, chunk.samples, len(chunk.draft), carried
    )


def _outcome(draft: tuple[int, ...], rows: list[RowOutcome]) -> Outcome:
    """What a sequence gets of the rows of its last known token and of its draft."""
    first = rows[0]
    if not isinstance(first, Sampled):
        return first
    sampled = [first]
    for drafted, row in zip(draft, rows[1:], strict=True):
        if drafted != sampled[-1].token or not isinstance(row, Sampled):
            break
        sampled.append(row)
    return sampled


def _current(device: torch.device) -> torch.cuda.device:
    """Makes a GPU the one that kernels are launched on; each thread has its own. Nothing on a CPU."""
    return torch.cuda.device(device if device.type == "cuda" else -1)


def _device(settings: EngineSettings) -> torch.device:
    name = settings.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cpu" and _NVIDIA_DRIVER.exists():
            log.warning(
                "there is an NVIDIA driver here, but this torch (%s, CUDA %s) finds no GPU that it can use: computing on the CPU. "
                "GPT_OSS_DEVICE=cuda makes that an error",
                torch.__version__, torch.version.cuda or "not built in",
            )  # fmt: skip
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigurationError(f"device {settings.device!r} cannot be used: {error}") from None
    return device


def _dtype(settings: EngineSettings, config: ModelConfig, device: torch.device) -> torch.dtype:
    """bfloat16 from compute capability 8.0 on, float16 below; on CPU what the checkpoint was written in."""
    name = settings.dtype
    if name == "auto":
        if device.type == "cuda":
            name = "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
        else:
            name = "float32" if config.dtype == "float32" else "bfloat16"
    return {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}[name]
