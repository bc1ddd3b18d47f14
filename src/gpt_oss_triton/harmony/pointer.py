"""What a reference within a JSON schema points to."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

_STEP = re.compile(r"(?:[^~]|~[01])*", re.DOTALL)
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


def resolve(root: Any, reference: str) -> Any:
    """What is at `#` or `#/$defs/name/items/0`: a JSON pointer (RFC 6901) as the fragment of a URI.

    Raises:
        LookupError: it is no such reference, or nothing is there.
    """
    before, *steps = unquote(reference[1:]).split("/")
    if not reference.startswith("#") or before:
        raise LookupError(reference)
    found = root
    for step in steps:
        name = step.replace("~1", "/").replace("~0", "~") if _STEP.fullmatch(step) else None
        if isinstance(found, dict) and name in found:
            found = found[name]
        elif isinstance(found, list) and _INDEX.fullmatch(step) and int(step) < len(found):
            found = found[int(step)]
        else:
            raise LookupError(reference)
    return found
