"""References in a request's input to items of stored responses: which clients send that rely on the store."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec

from frontend.request_fields import invalid
from frontend.responses.items import ItemReference
from frontend.responses.request import CreateResponse
from gpt_oss_triton.errors import NotFound

Item = dict[str, Any]


def resolved(
    request: CreateResponse, find: Callable[[Collection[str]], Mapping[str, Item]]
) -> CreateResponse:
    """The request with the items themselves in place of the references to them.

    Args:
        find: the caller's stored items by their ids.

    Raises:
        InvalidRequest: a malformed reference.
        NotFound: an item that is not stored, or no longer.
    """
    if isinstance(request.input, str):
        return request
    wanted = {place: _id(item, place) for place, item in enumerate(request.input) if _is_reference(item)}
    if not wanted:
        return request
    found = find(set(wanted.values()))
    items = list(request.input)
    for place, item_id in wanted.items():
        if item_id not in found:
            raise NotFound(
                "There is no such item, or it is held no longer: send the item itself.",
                param=f"input[{place}].id",
            )
        items[place] = found[item_id]
    return msgspec.structs.replace(request, input=items)


def _is_reference(item: Item) -> bool:
    """Its type may be left out, as OpenAI's may."""
    kind = item.get("type")
    return kind == "item_reference" or (kind is None and "id" in item and item.keys() <= {"type", "id"})


def _id(item: Item, place: int) -> str:
    try:
        return msgspec.convert(item, ItemReference).id
    except msgspec.ValidationError as error:
        raise invalid(str(error), ItemReference, f"input[{place}]") from None
