"""JSON lines as columns.

Python's parser, not pyarrow's: that one (25.0) crashes the process at some malformed texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlops import errors
from mlops.ml.datasets.refusal import brief, refusing
from mlops.ml.datasets.source import TextMeaning, check_names
from mlops.ml.progress import Report

_BLOCK_BYTES = 16 * 1024**2
_HINT = 'Write one object a line: {"a": 1, "b": "x"}; pandas does with to_json(orient="records", lines=True)'
_TYPES = {int: pa.int64(), float: pa.float64(), bool: pa.bool_(), str: pa.large_string()}
_WORDS = {pa.int64(): "numbers", pa.float64(): "numbers", pa.bool_(): "booleans", pa.large_string(): "texts"}


class JsonColumns:
    """Columns of a file of JSON lines. Each block of lines is kept as a file of its own types below `scratch`."""

    text_meaning = TextMeaning.TIMES
    decimal_comma = False

    def __init__(self, path: Path, scratch: Path, report: Report) -> None:
        """Raises DataInvalid."""
        self._blocks: list[Path] = []
        self._types: dict[str, Any] = {}
        self._line = 0
        total = max(path.stat().st_size, 1)
        with path.open("rb") as file, refusing("The JSON lines cannot be read", hint=_HINT):
            if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
                raise errors.DataInvalid("The file is one JSON array, not JSON lines", hint=_HINT)
            file.seek(0)
            for text in _texts(file):
                objects = self._objects(text)
                if objects:
                    self._keep(objects, scratch / f"lines-{len(self._blocks)}.arrow")
                report(0.5 * file.tell() / total, f"line {self._line}")
        self.names = tuple(self._types)
        check_names(self.names)

    def column(self, index: int) -> Any:
        """One column: nulls where an object had no such key."""
        name = self.names[index]
        kind = self._types[name] or pa.float64()
        chunks: list[Any] = []
        for path in self._blocks:
            block = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            position = block.schema.get_field_index(name)
            found = pa.nulls(block.num_rows, kind) if position < 0 else block.column(position)
            chunks.append(found if found.type == kind else found.cast(kind, safe=False))
        return pa.chunked_array(chunks, type=kind)

    def _objects(self, text: str) -> list[dict[str, Any]]:
        decoder = json.JSONDecoder(object_pairs_hook=_without_duplicates)
        found: list[dict[str, Any]] = []
        for line in text.split("\n"):
            self._line += 1
            if not line or line.isspace():
                continue
            try:
                value = decoder.decode(line)
            except (ValueError, RecursionError) as exc:
                raise errors.DataInvalid(f"Line {self._line} is no JSON: {brief(exc)}", hint=_HINT) from exc
            if not isinstance(value, dict):
                raise errors.DataInvalid(f"Line {self._line} is no JSON object", hint=_HINT)
            found.append(value)
        if text.endswith("\n"):
            # What follows the last line break is the next block's.
            self._line -= 1
        return found

    def _keep(self, objects: list[dict[str, Any]], path: Path) -> None:
        columns: dict[str, Any] = {}
        for name in dict.fromkeys(key for found in objects for key in found):
            values = [found.get(name) for found in objects]
            kind = self._kind(name, values)
            self._types[name] = kind = self._joined(name, self._types.get(name), kind)
            columns[name] = _array(values, kind)
        # A block of empty objects has rows all the same.
        columns = columns or {"": pa.nulls(len(objects))}
        batch = pa.record_batch(list(columns.values()), names=list(columns))
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        self._blocks.append(path)

    def _kind(self, name: str, values: list[Any]) -> Any | None:
        """The Arrow type of the values; None where all are missing."""
        kind = None
        for found in sorted({type(value) for value in values} - {type(None)}, key=lambda found: found.__name__):
            if found not in _TYPES:
                raise errors.DataInvalid(
                    f"Column {name!r} holds a JSON {'object' if found is dict else 'array'}",
                    hint="Give each of its values a column of its own, or leave it out",
                )
            kind = self._joined(name, kind, _TYPES[found])
        return kind

    def _joined(self, name: str, one: Any | None, other: Any | None) -> Any | None:
        """The type that holds the values of both."""
        if one is None or other is None or one == other:
            return one if other is None else other
        if _WORDS[one] == _WORDS[other] == "numbers":
            return pa.float64()
        raise errors.DataInvalid(
            f"Column {name!r} holds {_WORDS[one]} on some lines and {_WORDS[other]} on others (by line {self._line})",
            hint="Write all values of a column in one way",
        )


def _texts(file: Any) -> Iterator[str]:
    """The file in blocks of whole lines."""
    first = True
    while block := file.read(_BLOCK_BYTES):
        text = (block + file.readline()).decode("utf-8")
        yield text.removeprefix("\ufeff") if first else text
        first = False


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is specified twice")
    return found


def _array(values: list[Any], kind: Any | None) -> Any:
    if kind is None:
        return pa.nulls(len(values), pa.float64())
    try:
        return pa.array(values, kind)
    except (OverflowError, pa.ArrowInvalid):
        if kind not in (pa.int64(), pa.float64()):
            raise
        # Whole numbers beyond 64 bits, or beyond what a float64 says exactly.
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
