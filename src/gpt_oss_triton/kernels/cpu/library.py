"""The compiled kernels as Python functions over tensors; `source/kernels.cpp` is the other side.

Nothing is checked here but what the types say: `operations.py` hands over contiguous CPU tensors of the right shape.
"""

from __future__ import annotations

import ctypes
import functools

import torch

from gpt_oss_triton.kernels.cpu import build

_POINTER, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int, ctypes.c_float
MAX_TOP = 20  # log-probabilities of one row


class AttentionShape(ctypes.Structure):
    _fields_ = [(name, _INT) for name in ("heads", "kv_heads", "head_dim", "block_size")]


class ExpertMatrix(ctypes.Structure):
    _fields_ = [
        ("packed", _POINTER), ("bias", _POINTER), ("inputs", _INT), ("tiles", _INT), ("mxfp4", ctypes.c_bool)
    ]  # fmt: skip


class Mixture(ctypes.Structure):
    _fields_ = [
        ("hidden", _INT), ("intermediate", _INT), ("experts", _INT), ("per_token", _INT),
        ("norm", _POINTER), ("eps", _FLOAT), ("router", _POINTER), ("router_bias", _POINTER),
        ("gate_up", ExpertMatrix), ("down", ExpertMatrix), ("alpha", _FLOAT), ("limit", _FLOAT),
    ]  # fmt: skip


class Screen(ctypes.Structure):
    _fields_ = [(name, _POINTER) for name in ("tiles", "offsets", "scales", "lengths", "errors")]


class Rule(ctypes.Structure):
    _fields_ = [
        ("uniform", ctypes.c_double), ("temperature", _FLOAT), ("top_p", _FLOAT), ("min_p", _FLOAT), ("top_k", _INT),
        ("top", _INT),
    ]  # fmt: skip


class Drawn(ctypes.Structure):
    _fields_ = [
        ("token", ctypes.c_int64), ("logprob", ctypes.c_double), ("top_logprobs", ctypes.c_double * MAX_TOP),
        ("top_tokens", ctypes.c_int64 * MAX_TOP), ("top_count", ctypes.c_int64),
    ]  # fmt: skip


_SIGNATURES = {
    "pack_bf16": (_INT, _POINTER, _INT, _INT, _INT, _POINTER),
    "pack_mxfp4": (_INT, _POINTER, _POINTER, _INT, _INT, _INT, _POINTER),
    "pack_screen": (_INT, _POINTER, _INT, _INT, *[_POINTER] * 5),
    "embed": (_INT, _POINTER, _INT, _POINTER, _INT, _POINTER),
    "linear_layer": (_INT, _POINTER, _INT, _INT, _POINTER, _FLOAT, _POINTER, _POINTER, _INT, _POINTER, _INT),
    "attention_layer": (
        _INT, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _INT, _POINTER, _INT, _INT, _POINTER,
        _FLOAT, _POINTER, _POINTER, _POINTER,
    ),
    "mixture_layer": (_INT, _POINTER, _POINTER, _INT),
    "draw_tokens": (_INT, _POINTER, _INT, _INT, _POINTER, _POINTER),
    "forbid_tokens": (_POINTER, _INT, _POINTER),
    "likeliest_tokens": (_INT, _POINTER, _INT, _INT, _POINTER, _FLOAT, _POINTER, _POINTER, _INT, _POINTER),
}  # fmt: skip


@functools.cache
def load() -> ctypes.CDLL:
    """
    Raises:
        Unavailable: see `build.find`.
    """
    try:
        library = ctypes.CDLL(str(build.find()))
    except OSError as error:
        raise build.Unavailable(f"they cannot be loaded: {error}") from None
    for name, arguments in _SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, None
    return library


@functools.cache
def why_unavailable() -> str | None:
    """Why the kernels cannot be used here, None when they can. Found out once."""
    try:
        load()
    except build.Unavailable as reason:
        return str(reason)
    return None


def pointer(tensor: torch.Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
