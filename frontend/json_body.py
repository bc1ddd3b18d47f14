"""JSON of a request body, and an error that says where it is wrong.

The decoder is fast and strict but its errors are brief, so a body that it refuses is read a second time,
by one that reads almost anything, to find the place.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

from gpt_oss_triton.errors import InvalidRequest

_decoder = msgspec.json.Decoder()
MAX_EXPLAINED_BYTES = 1 << 20
_TOO_DEEP = "The JSON is nested too deeply."


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        InvalidRequest: not JSON, not an object, nested too deeply, or with a string or number that no
            well-formed JSON has (lone surrogates, NaN, numbers beyond 64 bits); `param` names the place.
    """
    try:
        value = _decoder.decode(body)
    except RecursionError:
        raise InvalidRequest(_TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _explain(body) from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return value


def _explain(body: bytes) -> InvalidRequest:
    if len(body) > MAX_EXPLAINED_BYTES:  # a second reading would hold up everybody else's requests
        return InvalidRequest(
            "The body is not valid JSON: broken, nested too deeply, or with a number or text no JSON has."
        )
    try:
        return _find_fault(json.loads(body.decode()), "") or InvalidRequest("The body is not valid JSON.")
    except RecursionError:
        return InvalidRequest(_TOO_DEEP)
    except UnicodeDecodeError as error:
        return InvalidRequest(f"The body is not UTF-8 (byte {error.start}).")
    except json.JSONDecodeError as error:
        return InvalidRequest(f"The body is not JSON: {error}.")
    except ValueError:  # an integer of thousands of digits
        return InvalidRequest("The body holds a number that is too large.")


def _find_fault(value: Any, path: str) -> InvalidRequest | None:
    """The first value in reading order that only a lenient parser accepts."""
    if isinstance(value, dict):
        for name, child in value.items():
            if _has_surrogate(name):
                return InvalidRequest("A field's name has a lone surrogate.", param=path or None)
            if fault := _find_fault(child, f"{path}.{name}" if path else name):
                return fault
    elif isinstance(value, list):
        for index, child in enumerate(value):
            if fault := _find_fault(child, f"{path}[{index}]"):
                return fault
    elif isinstance(value, str) and _has_surrogate(value):
        return InvalidRequest(f"{path} has a lone surrogate, which is not text.", param=path or None)
    elif isinstance(value, float) and not math.isfinite(value):
        return InvalidRequest(f"{path} must be a finite number.", param=path or None)
    elif isinstance(value, int) and not -(2**63) <= value < 2**64:
        return InvalidRequest(f"{path} is too large a number.", param=path or None)
    return None


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
