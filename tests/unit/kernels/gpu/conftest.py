"""Where the kernels run: compiled on a GPU if there is one, otherwise in Triton's interpreter on the CPU.

Triton asks its environment whether to interpret: for our kernels when they are defined, hence the imports here,
before those of any test module of this folder; and for the functions of its own language when it is imported,
which others may have done long ago: those are interpreted for the duration of a test.
"""

from __future__ import annotations

import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")

with pytest.MonkeyPatch.context() as patch:
    if DEVICE.type == "cpu":
        patch.setenv("TRITON_INTERPRET", "1")
    pytest.importorskip("triton", reason="Triton's compiler is not installed")
    import triton.language.standard
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    import gpt_oss_triton.kernels.gpu.decode_attention
    import gpt_oss_triton.kernels.gpu.moe
    import gpt_oss_triton.kernels.gpu.norm
    import gpt_oss_triton.kernels.gpu.prefill_attention
    import gpt_oss_triton.kernels.gpu.rope  # noqa: F401

COMPILED = [
    (module, name, InterpretedFunction(value.fn))
    for module in (triton.language, triton.language.standard)
    for name, value in vars(module).items()
    if isinstance(value, JITFunction) and DEVICE.type == "cpu"
]


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    for module, name, function in COMPILED:
        monkeypatch.setattr(module, name, function)


@pytest.fixture(scope="session")
def device() -> torch.device:
    return DEVICE


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)
