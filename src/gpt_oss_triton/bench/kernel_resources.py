"""What the GPU kernels take of a GPU, compiled for it on any machine: `python -m gpt_oss_triton.bench.kernel_resources`.

The real launch functions are called with tensors of the published models' shapes that have no memory (device
"meta"); Triton compiles what they launch with its own assembler and launches nothing. So the table shows the
very variants and tile sizes that serve.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from gpt_oss_triton.checkpoint.shapes import SHAPES, Shape
from gpt_oss_triton.kernels.gpu.decode_attention import choose_splits, decode_attention
from gpt_oss_triton.kernels.gpu.moe_gemm import gemm_mixture
from gpt_oss_triton.kernels.gpu.moe_gemv import gemv_mixture
from gpt_oss_triton.kernels.gpu.norm import rms_norm
from gpt_oss_triton.kernels.gpu.prefill_attention import prefill_attention
from gpt_oss_triton.kernels.gpu.rope import rotate_and_store
from gpt_oss_triton.kernels.gpu.routing import route
from gpt_oss_triton.kernels.moe import Mxfp4Experts
from gpt_oss_triton.kernels.mxfp4 import Mxfp4Matrix

REGISTERS = 65_536  # of a multiprocessor, both of 8.0 and 9.0
WARPS = 64  # that it can hold
BLOCK_SIZE = 16
CONTEXT = 131_072


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    capability: int
    processors: int
    shared_kib: int  # of a multiprocessor
    reserved_kib: int = 1  # of each program on it


GPUS = (Gpu("A100", 80, 108, 164), Gpu("H100", 90, 132, 228))


@dataclass(frozen=True, slots=True)
class Resources:
    kernel: str
    registers: int  # of a thread
    spilled: int  # bytes of a thread's stack
    shared: int  # bytes of a program
    warps: int
    programs: int  # that one multiprocessor holds at once
    flushes: bool  # whether float32 products lose subnormals, which MXFP4's unpacking is made of


class _Compiler:
    """Stands in for Triton's GPU driver where there may be none."""

    def __init__(self, capability: int) -> None:
        self._capability = capability

    def get_current_device(self) -> int:
        return self._capability  # Triton keeps what it compiled by device

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self._capability, 32)


@contextmanager
def _compiled(gpu: Gpu) -> Iterator[list[Any]]:
    """Kernels that are launched within are compiled for `gpu` instead, and appended to the list."""
    kernels: list[Any] = []
    compile_or_launch = JITFunction.run

    def only_compile(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        kernels.append(compile_or_launch(self, *args, grid=grid, warmup=True, **kwargs))

    # It stays: there may be no other to put back, and this process has nothing else to do.
    triton.runtime.driver.set_active(_Compiler(gpu.capability))
    with patch.object(JITFunction, "run", only_compile):
        yield kernels


def launches(shape: Shape, gpu: Gpu) -> dict[str, Callable[[], object]]:
    """By name, what a layer of the model launches."""

    def empty(*size: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(size, dtype=dtype, device="meta")

    def integers(*size: int) -> torch.Tensor:
        return empty(*size, dtype=torch.int32)

    def experts(form: Callable[..., None], tokens: int) -> Callable[[], object]:
        e, h, n, k = shape.experts, shape.hidden, shape.intermediate, shape.experts_per_token

        def packed(rows: int, columns: int) -> Mxfp4Matrix:
            size, byte = (e, rows, columns // 32), torch.uint8
            return Mxfp4Matrix(empty(*size, 16, dtype=byte), empty(*size, dtype=byte))

        weights = Mxfp4Experts(
            packed(2 * n, h), empty(e, 2 * n), packed(h, n), empty(e, h), alpha=1.702, limit=7.0
        )
        chosen, shares = integers(tokens, k), empty(tokens, k, dtype=torch.float32)
        return lambda: form(empty(tokens, h), empty(tokens, h), chosen, shares, weights)

    keys, values = (empty(4096 * BLOCK_SIZE, shape.kv_heads, shape.head_dim) for _ in range(2))
    sinks = empty(shape.heads, dtype=torch.float32)
    scale = shape.head_dim**-0.5

    def decode(sequences: int, window: int | None) -> Callable[[], object]:
        splits = choose_splits(sequences * shape.kv_heads, window or CONTEXT, gpu.processors)
        return lambda: decode_attention(
            empty(sequences, shape.heads, shape.head_dim), keys, values, integers(sequences, CONTEXT // BLOCK_SIZE),
            integers(sequences), sinks, window=window, splits=splits,
            block_size=BLOCK_SIZE, scale=scale,
        )  # fmt: skip

    def prefill(tokens: int, window: int | None) -> Callable[[], object]:
        return lambda: prefill_attention(
            empty(tokens, shape.heads, shape.head_dim), keys, values, integers(3), integers(2, CONTEXT // BLOCK_SIZE),
            integers(2), sinks, window=window, block_size=BLOCK_SIZE, scale=scale,
        )  # fmt: skip

    qkv = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    angles = empty(64, shape.head_dim // 2)
    return {
        "norm": lambda: rms_norm(empty(64, shape.hidden), empty(shape.hidden), 1e-5),
        "rope": lambda: rotate_and_store(
            empty(64, qkv), angles, angles, keys, values, empty(64, dtype=torch.int64), shape.heads
        ),
        "decode, 1 sequence": decode(1, None),
        "decode, 1 sequence, window": decode(1, shape.sliding_window),
        "decode, 64 sequences": decode(64, None),
        "prefill": prefill(2048, None),
        "prefill, window": prefill(2048, shape.sliding_window),
        "router": lambda: route(empty(64, shape.experts), shape.experts_per_token),
        "experts, 1 token": experts(gemv_mixture, 1),
        "experts, 64 tokens": experts(gemm_mixture, 64),
        "experts, 256 tokens": experts(gemm_mixture, 256),
        "experts, 2048 tokens": experts(gemm_mixture, 2048),
    }


def resources(kernel: Any, gpu: Gpu) -> Resources:
    registers, stack = _assembled(kernel.asm["cubin"])
    warps, shared = kernel.metadata.num_warps, kernel.metadata.shared
    # Registers are dealt to a warp in units of 256.
    by_registers = REGISTERS // (-(-registers * 32 // 256) * 256 * warps)
    by_shared = gpu.shared_kib * 1024 // (shared + gpu.reserved_kib * 1024)
    return Resources(
        kernel.metadata.name, registers, stack, shared, warps,
        programs=min(by_registers, by_shared, WARPS // warps, 32),
        flushes=bool(re.search(r"(mul|fma|add)\.(rn\.)?ftz\.f32", kernel.asm["ptx"])),
    )  # fmt: skip


def _assembled(cubin: bytes) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "kernel.cubin"
        path.write_bytes(cubin)
        command = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", str(path)]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    if found is None:
        raise RuntimeError(f"cuobjdump says nothing of registers: {told!r}")
    return int(found[1]), int(found[2])


def table(shape: Shape, gpu: Gpu) -> Iterator[tuple[str, Resources]]:
    for name, launch in launches(shape, gpu).items():
        with _compiled(gpu) as kernels:
            launch()
        for kernel in kernels:
            yield name, resources(kernel, gpu)


def main() -> None:
    write = sys.stdout.write
    for gpu in GPUS:
        write(f"\n{gpu.name} (sm_{gpu.capability}), gpt-oss-20b in bfloat16\n\n")
        write("| launch | kernel | registers | spilled bytes | shared KiB | warps | programs/SM | ftz |\n")
        write("|---|---|---|---|---|---|---|---|\n")
        for name, r in table(SHAPES["20b"], gpu):
            write(
                f"| {name} | `{r.kernel}` | {r.registers} | {r.spilled} | {r.shared / 1024:.1f} | {r.warps} "
                f"| {r.programs} | {'yes' if r.flushes else 'no'} |\n"
            )


if __name__ == "__main__":
    main()
