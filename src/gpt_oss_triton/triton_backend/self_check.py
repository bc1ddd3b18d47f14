"""Whether this process's NumPy and Triton's Python-backend stub understand each other."""

from __future__ import annotations

import numpy as np
import triton_python_backend_utils as pb_utils

from gpt_oss_triton.errors import ConfigurationError


def check_tensors() -> None:
    """Send a tensor through the stub's C++ side and back.

    A stub that was built for NumPy 1 reads NumPy 2's arrays at the wrong offsets: it takes an element for
    zero bytes wide. Models load, and every output is empty. The same misreading gives an array made from a
    DLPack capsule strides of zero, so all its elements are the first one.

    Raises:
        ConfigurationError: the tensor came back changed.
    """
    values = np.array([1, 2, 3], dtype=np.int32)
    capsule = pb_utils.Tensor("sent", values).to_dlpack()
    returned = pb_utils.Tensor.from_dlpack("returned", capsule).as_numpy()
    if not np.array_equal(values, returned):
        raise ConfigurationError(
            f"NumPy {np.__version__} does not fit this Triton's Python backend, which was built for another "
            "major version of it; with Triton 2.51, pip install 'numpy<2'."
        )
