"""Which versions of the operations a device gets."""

from __future__ import annotations

import pytest
import torch

from gpt_oss_triton.kernels import operations
from gpt_oss_triton.kernels.reference import TorchOperations

GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("capability", "installed", "starts", "words"),
    [
        ((7, 5), True, True, "compute capability 7.5"),
        ((9, 0), False, True, "triton is not installed"),
        ((9, 0), True, False, "Triton's compiler does not start (RuntimeError: 0 active drivers"),
        ((8, 0), True, True, None),
    ],
)
def test_gpus_get_the_kernels_where_they_run(monkeypatch, caplog, capability, installed, starts, words):
    pytest.importorskip("triton")
    if starts:
        monkeypatch.setattr(operations, "_why_triton_cannot", lambda: None)
    elif torch.cuda.is_available():
        pytest.skip("here it does")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if not installed:
        monkeypatch.setattr(operations, "find_spec", lambda name: None)
    made = operations.operations_for(GPU, torch.bfloat16)
    if words is None:
        assert type(made).__name__ == "GpuOperations"
    else:
        assert isinstance(made, TorchOperations)
        assert words in caplog.text


def test_shares_of_a_model_on_a_cpu_are_plain_torch():
    assert isinstance(operations.partial_operations_for(torch.device("cpu"), torch.bfloat16), TorchOperations)
