"""How much work it is to find out whether a schema can be enforced, judged before llguidance begins with it.

llguidance has limits of its own, but not on all that it does. Patterns that bind one string together it takes apart all
at once, which costs the product of their lengths. It compares each of an object's `patternProperties` with each other one,
and does so again for every schema that is joined to the object. `minProperties` and `maxProperties` make it write the
object out once for each of its properties. Of `multipleOf` it makes as many states as there are remainders. It follows
references on its stack, as deep as they lead: a thousand of them can end the process. So can the least of 64-bit
integers, where it is the only value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from gpt_oss_triton.errors import InvalidRequest
from gpt_oss_triton.harmony.pointer import resolve

MAX_WORK = 5_000_000  # a few tenths of a second
MAX_PATTERN_PROPERTIES = 64  # of a whole schema; comparing them takes 0.1 s
MAX_REFERRED_LEVELS = 512  # of a schema and all that it refers to, together; some 1,500 fill a stack of 8 MiB
MAX_REFERRED_PARTS = 10_000  # schemas, where what is referred to overlaps

_SEARCHED = 4  # characters: a pattern may match anywhere, as if it began and ended with `.*`
_OF_FORMAT = 16  # a format's work, as that of a pattern so long
_OF_REMAINDER = 40  # of each one that `multipleOf` leaves
_LEAST_INTEGER = 512 - 2**63  # and what is less becomes the least of 64-bit integers, by way of a double
_VARIANTS = ("anyOf", "oneOf")
_PLACES = ("items", "additionalItems", "additionalProperties")
_LISTED_PLACES = ("items", "prefixItems")
_NAMED_PLACES = ("properties", "patternProperties")
_COUNTS = ("minProperties", "maxProperties")
_OWN = frozenset(
    {
        "type", "const", "enum", "items", "additionalItems", "prefixItems", "minItems", "maxItems", "properties",
        "additionalProperties", "patternProperties", "required", "minProperties", "maxProperties", "minLength",
        "maxLength", "pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    }
)  # fmt: skip


def check_work(schema: dict[str, Any], param: str) -> None:
    """Refuse a schema that would take llguidance long. It need not be a valid one.

    Args:
        schema: within the bounds of `check_schema`; an $id of its own does not count.

    Raises:
        InvalidRequest: too many patterns for one string, too many for an object's names, too many properties where
            they are counted, too large a `multipleOf`, too small a number, too many levels, or a reference that is not
            simply a place in the schema.
    """
    _Judge(schema, param).check()


class _Judge:
    def __init__(self, root: dict[str, Any], param: str) -> None:
        self._root = root
        self._param = param
        self._dicts = [*_dicts(root)]
        # What refers to itself is not judged yet where it comes again: there it counts as all that there is.
        self._all = _all_together(self._dicts)
        self._counts = any(isinstance(part.get(key), int) for part in self._dicts for key in _COUNTS)
        self._works = {"#": self._all}  # of what is referred to
        self._spent = 0
        self._pattern_properties = 0
        self._parts = 0
        self._levels = 0
        self._deepest = 0  # of the levels since the last reference

    def check(self) -> None:
        self._check_ids()
        self._check_numbers()
        self._work(self._root, 1)

    def _check_ids(self) -> None:
        """A schema inside with an address of its own could take the place of the whole, and what is judged here
        would not be what llguidance reads."""
        keys = ["$id"]
        if any("draft-04" in str(part.get("$schema")) for part in self._dicts):
            keys.append("id")  # in later drafts it says nothing
        inside = [part for part in self._dicts if part is not self._root]
        ids = [part[key] for key in keys for part in inside if isinstance(part.get(key), str)]
        refers = any("$ref" in part for part in self._dicts)
        if any(refers or len(name) < 2 or not name.startswith("#") for name in ids):
            raise self._fault("a schema inside of it may have no $id.")

    def _check_numbers(self) -> None:
        keys = ("const", "enum", "maximum", "exclusiveMaximum")
        values = [part.get(key) for part in self._dicts for key in keys]
        if any(number <= _LEAST_INTEGER for value in values for number in _numbers(value)):
            raise self._fault(
                f"a const, an enum's member and a maximum must be greater than {_LEAST_INTEGER}."
            )

    def _work(self, schema: Any, level: int) -> int:
        """How much work at most goes into one of the strings, or into the names of one object.

        It calls itself once for each level, through references too: so their number bounds Python's stack as well.
        """
        self._count(level)
        if not isinstance(schema, dict):
            return 1
        factors = [_of_string(schema), self._of_names(schema), self._of_multiples(schema)]
        for key in _VARIANTS:
            of_all = 0
            for variant in _listed(schema, key):
                of_all += self._work(variant, level + 1)
            factors.append(max(of_all, 1))
        for part in _listed(schema, "allOf"):
            factors.append(self._work(part, level + 1))
        if isinstance(reference := schema.get("$ref"), str):
            if reference not in self._works:
                target = self._resolved(reference)
                self._works[reference] = self._all
                above, self._deepest = self._deepest, 0
                self._works[reference] = self._work(target, 1)
                self._deepest = above
            factors.append(self._works[reference])
        heaviest = 1
        for place in _places(schema):
            heaviest = max(heaviest, self._work(place, level + 1))
        factors.append(heaviest)
        joined = _joined_in(schema)
        work = _bounded(math.prod(factors) * max(joined, 1))
        if joined > 1:
            self._spend(
                work,
                "allOf, anyOf, oneOf or $ref join too many patterns, too long ones, too many schemas or multiples.",
            )
        return work

    def _of_names(self, schema: dict[str, Any]) -> int:
        patterns = len(_named(schema, "patternProperties"))
        self._pattern_properties += patterns
        if self._pattern_properties > MAX_PATTERN_PROPERTIES:
            raise self._fault(f"it has more than {MAX_PATTERN_PROPERTIES} patternProperties.")
        work = _cubed(patterns)
        if self._counts:
            work *= _cubed(len(_named(schema, "properties")) + len(_listed(schema, "required")))
        if work > 1:
            self._spend(work, "minProperties or maxProperties count too many properties.")
        return work

    def _of_multiples(self, schema: dict[str, Any]) -> int:
        work = _of_remainders(schema)
        if work > 1:
            self._spend(work, "a multipleOf is too large.")
        return work

    def _spend(self, work: int, reason: str) -> None:
        self._spent += work
        if self._spent > MAX_WORK:
            raise self._fault(reason)

    def _count(self, level: int) -> None:
        self._parts += 1
        if level > self._deepest:
            self._deepest = level
            self._levels += 1
        if self._levels > MAX_REFERRED_LEVELS or self._parts > MAX_REFERRED_PARTS:
            raise self._fault(
                f"with what it refers to it has more than {MAX_REFERRED_LEVELS} levels or {MAX_REFERRED_PARTS} parts."
            )

    def _resolved(self, reference: str) -> Any:
        """What is at a place of the schema."""
        if not reference.startswith("#/"):
            raise self._fault(f"{reference[:64]!r} is no place in it, as #/$defs/name is.")
        try:
            return resolve(self._root, reference)
        except LookupError:
            raise self._fault(f"there is nothing at {reference[:64]!r}.") from None

    def _fault(self, reason: str) -> InvalidRequest:
        return InvalidRequest(f"The schema cannot be enforced: {reason}", param=self._param)


def _all_together(dicts: list[dict[str, Any]]) -> int:
    """The work if every pattern and format bound the same string; those that are equal count once."""
    bounds = {
        (key, part[key]) for part in dicts for key in ("pattern", "format") if isinstance(part.get(key), str)
    }
    work = _cubed(sum(len(_named(part, "patternProperties")) for part in dicts))
    for key, text in bounds:
        work = _bounded(work * _of_string({key: text}))
    return work


def _of_string(schema: dict[str, Any]) -> int:
    pattern = schema.get("pattern")
    work = _SEARCHED + len(pattern) if isinstance(pattern, str) else 1
    return work * _OF_FORMAT if "format" in schema else work


def _of_remainders(schema: dict[str, Any]) -> int:
    """Decimals count by their digits: 0.25 leaves 25."""
    step = schema.get("multipleOf")
    if not isinstance(step, int | float) or (isinstance(step, float) and not math.isfinite(step)):
        return 1
    exact = Decimal(str(step)) if isinstance(step, float) else Decimal(step)
    remainders = exact.scaleb(len(f"{exact:f}".partition(".")[2]))
    return _bounded(int(max(Decimal(1), min(remainders, Decimal(MAX_WORK)))) * _OF_REMAINDER)


def _cubed(names: int) -> int:
    """Of comparing each name with each other one, at a cost that grows with their number as well."""
    return int(max(names, 1) ** 3)


def _bounded(work: int) -> int:
    """References in a row can double it each, and so would its digits."""
    return min(work, MAX_WORK + 1)


def _joined_in(schema: dict[str, Any]) -> int:
    """How many schemas bind the same values here."""
    own = not _OWN.isdisjoint(schema)
    return own + len(_listed(schema, "allOf")) + sum(key in schema for key in (*_VARIANTS, "$ref"))


def _places(schema: dict[str, Any]) -> list[Any]:
    """The schemas of what is inside of a value."""
    found = [schema[key] for key in _PLACES if key in schema]
    for key in _LISTED_PLACES:
        found += _listed(schema, key)
    for key in _NAMED_PLACES:
        found += _named(schema, key).values()
    return found


def _listed(schema: dict[str, Any], key: str) -> list[Any]:
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _named(schema: dict[str, Any], key: str) -> dict[str, Any]:
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def _numbers(value: Any) -> Iterator[int | float]:
    return (part for part in _parts(value) if isinstance(part, int | float))


def _dicts(value: Any) -> Iterator[dict[str, Any]]:
    """Whatever they are there."""
    return (part for part in _parts(value) if isinstance(part, dict))


def _parts(value: Any) -> Iterator[Any]:
    """All in it, however deep, itself included."""
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left += value
        elif isinstance(value, dict):
            left += value.values()
        yield value
