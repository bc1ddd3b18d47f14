"""One Triton request's input tensors as Python values.

Triton has compared names, dtypes and shapes with config.pbtxt before a model sees a request; what it
cannot know is whether bytes are text, and text is the JSON it should be.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
import numpy as np

from gpt_oss_triton import wire
from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.wire import TensorSpec

T = TypeVar("T")
_PATH = re.compile(
    r"`\$\.?(?P<path>[^`\[]*)[^`]*`$"
)  # where msgspec says the fault is, up to an array's index


class Inputs:
    """The tensors that a request carries. Each getter returns None for an absent one."""

    def __init__(self, request: Any) -> None:
        self._arrays: dict[str, np.ndarray[Any, Any]] = {t.name(): t.as_numpy() for t in request.inputs()}

    def __contains__(self, spec: TensorSpec) -> bool:
        return spec.name in self._arrays

    def names(self) -> set[str]:
        return set(self._arrays)

    def scalar(self, spec: TensorSpec) -> Any:
        """A BOOL, FP32, INT32 or UINT64 tensor of one element, as bool, float or int."""
        array = self._arrays.get(spec.name)
        return None if array is None else array.reshape(-1)[0].item()

    def text(self, spec: TensorSpec, param: str | None = None) -> str | None:
        """A BYTES tensor of one element.

        Raises:
            InvalidRequest: not UTF-8; `param`, by default the tensor's name, is at fault.
        """
        array = self._arrays.get(spec.name)
        return None if array is None else _decode(array.reshape(-1)[0], param or spec.name)

    def texts(self, spec: TensorSpec, param: str | None = None) -> list[str] | None:
        """A BYTES tensor of any number of elements. Raises as `text` does."""
        array = self._arrays.get(spec.name)
        return None if array is None else [_decode(item, param or spec.name) for item in array.reshape(-1)]

    def integers(self, spec: TensorSpec) -> list[int] | None:
        """An INT32 tensor of any number of elements."""
        array = self._arrays.get(spec.name)
        return None if array is None else array.reshape(-1).tolist()

    def record(self, spec: TensorSpec, kind: type[T]) -> T | None:
        """A BYTES tensor of one element that holds a JSON record of `kind`.

        Raises:
            InvalidRequest: not UTF-8, not JSON, or not that record; `param` is the path of the fault.
        """
        text = self.text(spec)
        if text is None:
            return None
        try:
            return wire.decode(text, kind)
        except msgspec.DecodeError as error:
            found = _PATH.search(str(error))
            raise InvalidRequest(
                f"{spec.name}: {error}.", param=(found and found["path"]) or spec.name
            ) from None
        except RecursionError:
            raise InvalidRequest(f"{spec.name} is nested too deeply.", param=spec.name) from None


def _decode(value: bytes, param: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{param} is not valid UTF-8 (byte {error.start}).", param=param) from None
