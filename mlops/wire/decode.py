"""Bytes to a message, strictly: what no store can keep is refused before anything is done with it."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from mlops.errors import InvalidRequest

MessageT = TypeVar("MessageT", bound=Message)


def decode(message_class: type[MessageT], data: bytes, *, any_text: bool = False) -> MessageT:
    """The message that the bytes hold.

    Raises InvalidRequest where they hold none (wrong bytes, text that is not UTF-8, nested too deeply), and
    for a text with a NUL character, which PostgreSQL refuses and file names cannot hold, unless `any_text`.
    """
    try:
        message = message_class.FromString(data)
    except DecodeError as error:
        raise InvalidRequest(f"the request is no valid {message_class.DESCRIPTOR.name}: {error}") from error
    # Most requests hold no zero byte at all, and need no walk.
    if not any_text and b"\0" in data:
        found: dict[str, str] = {}
        _find_nul(message, "", found)
        if found:
            raise InvalidRequest(f"{next(iter(found))}: holds a NUL character", violations=found)
    return message


def _find_nul(message: Message, path: str, found: dict[str, str]) -> None:
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            for key in value:
                _check(key, f"{here}[{str(key)[:80]!r}]", found)
                _check(value[key], f"{here}[{str(key)[:80]!r}]", found)
        elif field.type == FieldDescriptor.TYPE_BYTES:
            continue
        elif field.is_repeated:
            for index, item in enumerate(value):
                _check(item, f"{here}[{index}]", found)
        else:
            _check(value, here, found)


def _check(item: object, path: str, found: dict[str, str]) -> None:
    if isinstance(item, Message):
        _find_nul(item, path, found)
    elif isinstance(item, str) and "\0" in item:
        found[path] = "holds a NUL character"
