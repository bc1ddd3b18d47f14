"""Ids of the calls in an answer."""

from __future__ import annotations

import hashlib


def call_id(answer_id: str, index: int, call: int) -> str:
    """Made of the answer's own id, which nobody can guess: whoever knows that one knows those of its calls.

    Args:
        answer_id: of all answers to a request.
        index: of the answer among them.
        call: its number within the answer, from 0.
    """
    return "call_" + hashlib.blake2b(f"{answer_id}/{index}/{call}".encode(), digest_size=12).hexdigest()
