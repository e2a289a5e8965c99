"""What the walk between messages and values has to know of a field, worked out once from the descriptors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

# Fields whose items are messages with one repeated field of the same meaning: rows of a matrix.
UNWRAPPED = {"mlops.v1.ConfusionMatrix.counts": "counts"}

# How much of a refused value, or of a key, is quoted.
QUOTED_CHARS = 80

Path = tuple[str, ...]


class Shape(StrEnum):
    """What has to be done with one item of a field."""

    SCALAR = "scalar"
    ENUM = "enum"
    TIMESTAMP = "timestamp"
    DURATION = "duration"
    MESSAGE = "message"
    UNWRAPPED = "unwrapped"  # a message that stands for the items of the field named in UNWRAPPED


class Holder(StrEnum):
    """How many items a field holds."""

    ONE = "one"
    MANY = "many"
    MAP = "map"


_SPECIAL = {"google.protobuf.Timestamp": Shape.TIMESTAMP, "google.protobuf.Duration": Shape.DURATION}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field of a message. `message` and `names` describe its items: for a map, its values."""

    name: str
    full_name: str
    shape: Shape
    holder: Holder
    has_presence: bool
    # The items' own message, where they are messages.
    message: Descriptor | None
    # Enums: number to domain name, and back.
    names: Mapping[int, str]
    numbers: Mapping[str, int]


@cache
def fields_of(message: Descriptor) -> Mapping[str, Field]:
    """The fields of a message by name."""
    return {descriptor.name: _field(descriptor) for descriptor in message.fields}


def _field(descriptor: FieldDescriptor) -> Field:
    entry = descriptor.message_type
    is_map = entry is not None and entry.GetOptions().map_entry
    item = entry.fields_by_name["value"] if entry is not None and is_map else descriptor
    names = _enum_names(item.enum_type) if item.enum_type is not None else {}
    return Field(
        name=descriptor.name,
        full_name=descriptor.full_name,
        shape=_shape(descriptor, item),
        holder=Holder.MAP if is_map else Holder.MANY if descriptor.is_repeated else Holder.ONE,
        has_presence=descriptor.has_presence,
        message=item.message_type,
        names=names,
        numbers={name: number for number, name in names.items()},
    )


def _shape(field: FieldDescriptor, item: FieldDescriptor) -> Shape:
    if field.full_name in UNWRAPPED:
        return Shape.UNWRAPPED
    if item.enum_type is not None:
        return Shape.ENUM
    if item.message_type is None:
        return Shape.SCALAR
    return _SPECIAL.get(item.message_type.full_name, Shape.MESSAGE)


def _enum_names(enum: EnumDescriptor) -> Mapping[int, str]:
    """{1: "queued"} for JOB_STATE_QUEUED of JobState."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
    return {value.number: value.name.removeprefix(prefix).lower() for value in enum.values}


# --- paths -------------------------------------------------------------------------------------


def join(parts: Iterable[str]) -> str:
    """spec.estimator.params[n_estimators].integer"""
    path = ""
    for part in parts:
        path += part if part.startswith("[") or not path else f".{part}"
    return path


def bracket(value: object) -> str:
    """A key or a position, as a part of a path."""
    return f"[{quote(str(value))}]"


def quote(text: str) -> str:
    """A text, cut where it is too long to be repeated."""
    return text if len(text) <= QUOTED_CHARS else text[:QUOTED_CHARS] + "…"


def path_of(message: Message, location: tuple[str | int, ...]) -> Iterable[str]:
    """The place of a validation error as it is written for the message: keys and positions in brackets."""
    here: Mapping[str, Field] = fields_of(message.DESCRIPTOR)
    inside_map = False
    for part in location:
        if inside_map or isinstance(part, int):
            inside_map = False
            yield bracket(part)
        elif (field := here.get(part)) is not None:
            inside_map = field.holder is Holder.MAP
            here = fields_of(field.message) if field.message is not None else {}
            yield field.name
        elif part != "[key]":
            yield part
