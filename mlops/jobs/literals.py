"""Plain Python values as parameter values, and back: None, bool, int, float, str, and lists, tuples and dicts of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from mlops.jobs.estimator import ParamEntry, ParamList, ParamMapping, ParamValue

# What protobuf's int64 holds.
MIN_INTEGER = -(2**63)
MAX_INTEGER = 2**63 - 1

NONE = ParamValue(none=True)


class Reference(NamedTuple):
    """An allow-listed function or type inside a literal, by its import path."""

    path: str


def to_value(literal: object) -> ParamValue:
    """The parameter value of a plain Python value.

    Raises TypeError for anything that is not plain data, OverflowError for an integer over 64 bits.
    """
    if isinstance(literal, Reference):
        return ParamValue(function=literal.path)
    if isinstance(literal, ParamValue):
        return literal
    if literal is None:
        return NONE
    if isinstance(literal, bool):
        return ParamValue(boolean=literal)
    if isinstance(literal, int):
        if not MIN_INTEGER <= literal <= MAX_INTEGER:
            raise OverflowError(f"the integer {literal} needs more than 64 bits")
        return ParamValue(integer=literal)
    if isinstance(literal, float):
        return ParamValue(number=literal)
    if isinstance(literal, str):
        return ParamValue(string=str(literal))
    if isinstance(literal, list):
        return ParamValue(list=ParamList(items=tuple(to_value(item) for item in literal)))
    if isinstance(literal, tuple):
        return ParamValue(tuple=ParamList(items=tuple(to_value(item) for item in literal)))
    if isinstance(literal, Mapping):
        entries = tuple(ParamEntry(key=to_value(key), value=to_value(value)) for key, value in literal.items())
        return ParamValue(mapping=ParamMapping(entries=entries))
    raise TypeError(f"a {type(literal).__name__} is no plain value")


def to_values(literals: Mapping[str, object]) -> dict[str, ParamValue]:
    """`to_value` of each entry: the parameters of a spec."""
    return {name: to_value(literal) for name, literal in literals.items()}


def to_json(literal: object) -> dict[str, Any]:
    """`to_value` in JSON form, NaN and infinity as texts."""
    found: dict[str, Any] = json.loads(to_value(literal).model_dump_json())
    return found


def is_scalar(value: ParamValue) -> bool:
    """Whether the value is None, a boolean, a number or a text."""
    return value.kind in ("none", "boolean", "integer", "number", "string")


def scalar(value: ParamValue) -> Any:
    """The Python value of a scalar. Raises TypeError for anything else."""
    kind = value.kind
    if kind == "none":
        return None
    if not is_scalar(value):
        raise TypeError(f"a {kind} is no scalar")
    return getattr(value, kind)


def items_of(value: ParamValue) -> tuple[ParamValue, ...] | None:
    """The items of a list or a tuple, else None."""
    found = value.list if value.list is not None else value.tuple
    return None if found is None else found.items


def same(one: ParamValue, other: ParamValue) -> bool:
    """Equal in kind and value, NaN being equal to itself."""
    if one.number is not None and other.number is not None and math.isnan(one.number):
        return math.isnan(other.number)
    return one == other or (one.kind == other.kind and one.model_dump_json() == other.model_dump_json())


def describe(value: ParamValue, *, limit: int = 80) -> str:
    """The value as Python would write it, cut to `limit` characters, for messages."""
    text = _written(value, limit)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _written(value: ParamValue, limit: int) -> str:
    kind = value.kind
    if is_scalar(value):
        return repr(scalar(value))
    if kind == "object":
        return f"{value.object.class_name if value.object else ''}(…)"
    if kind == "function":
        return value.function or ""
    if kind == "mapping":
        entries = value.mapping.entries if value.mapping else ()
        return "{" + ", ".join(f"{_written(e.key, limit)}: {_written(e.value, limit)}" for e in entries[:limit]) + "}"
    inner = ", ".join(_written(item, limit) for item in (items_of(value) or ())[:limit])
    return f"[{inner}]" if kind == "list" else f"({inner})"
