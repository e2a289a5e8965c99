"""Rows to predict, as they are typed or stand in a file. CSV and JSON need nothing but Python."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mlops import errors

STDIN = Path("-")
FORMATS = ("csv", "json", "jsonl", "parquet")


def read_rows(path: Path, *, format: str | None, delimiter: str, types: Mapping[str, str]) -> Any:
    """The rows of a file, or of standard input for "-", in a form that `client.predict` takes.

    format: by the file's suffix where it is left out; on standard input JSON is known by its first letter.
    types: column to its type in the model's signature, for what CSV leaves open. Raises InvalidRequest.
    """
    content = _content(path)
    kind = format or _kind(path, content)
    if kind == "parquet":
        return _parquet(content, path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise errors.InvalidRequest.of("rows", f"{_name(path)} is not UTF-8: {exc}") from exc
    if kind == "csv":
        return typed_columns(_cells(text, path, delimiter), types)
    return _objects(text, path, lines=kind == "jsonl")


def typed_columns(cells: Mapping[str, Sequence[str]], types: Mapping[str, str]) -> dict[str, list[Any]]:
    """Columns of texts as columns of values; empty texts are missing values.

    A column is read as what the model takes there. One that it does not take, or that cannot be read so, is numbers,
    truth values or texts, whichever all of its values are; the platform then says what is wrong with it.
    """
    return {name: _typed(column, types.get(name)) for name, column in cells.items()}


def _typed(cells: Sequence[str], type: str | None) -> list[Any]:
    if type == "string":
        return [cell or None for cell in cells]
    if type == "boolean":
        readers = [_truth_or_digit]
    elif type is None:
        readers = [_whole, _number, _truth]
    else:
        # A model takes times as seconds, so that its signature calls both of them numbers.
        readers = [_whole, _number, _truth, _moment]
    for reader in readers:
        try:
            return [None if cell == "" else reader(cell) for cell in cells]
        except ValueError:
            continue
    return [cell or None for cell in cells]


def _whole(cell: str) -> Any:
    # Python reads 1_000 too, which nobody writes into a table.
    if "_" in cell:
        raise ValueError(cell)
    value = int(cell)
    return value if -(2**63) <= value < 2**63 else float(value)


def _number(cell: str) -> Any:
    if "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _truth(cell: str) -> Any:
    word = cell.strip().lower()
    if word not in ("true", "false"):
        raise ValueError(cell)
    return word == "true"


def _truth_or_digit(cell: str) -> Any:
    return _truth({"1": "true", "0": "false"}.get(cell.strip(), cell))


def _moment(cell: str) -> Any:
    return datetime.fromisoformat(cell)


def _content(path: Path) -> bytes:
    if path == STDIN:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as exc:
        raise errors.InvalidRequest.of("rows", f"{_name(path)} cannot be read: {exc.strerror or exc}") from exc


def _kind(path: Path, content: bytes) -> str:
    if path == STDIN:
        first = content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
        if content.startswith(b"PAR1"):
            return "parquet"
        return "json" if first == b"[" else "jsonl" if first == b"{" else "csv"
    suffix = path.suffix.lower().lstrip(".")
    if suffix not in FORMATS:
        raise errors.InvalidRequest.of(
            "rows", f"what {_name(path)} holds is unknown; say --format {', '.join(FORMATS)}"
        )
    return suffix


def _cells(text: str, path: Path, delimiter: str) -> dict[str, list[str]]:
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if line]
    except (csv.Error, TypeError) as exc:
        raise errors.InvalidRequest.of("rows", f"{_name(path)} is no CSV: {exc}") from exc
    if not lines:
        raise errors.InvalidRequest.of("rows", f"{_name(path)} is empty; its first line names the columns")
    header, *rows = lines
    for number, row in enumerate(rows):
        if len(row) != len(header):
            raise errors.InvalidRequest.of(
                "rows", f"row {number} of {_name(path)} has {len(row)} cells where the header has {len(header)}"
            )
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise errors.InvalidRequest.of("rows", f"{_name(path)} has the column {twice!r} twice")
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def _objects(text: str, path: Path, *, lines: bool) -> Any:
    """A list of objects, an object of columns, or one object as one row; or one object a line."""
    try:
        if lines:
            found: Any = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise errors.InvalidRequest.of("rows", f"{_name(path)} is no JSON: {exc}") from exc
    # What one object on standard input is, its values say.
    if lines and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and not any(isinstance(value, list) for value in found.values()):
        return [found]
    if not isinstance(found, dict | list):
        raise errors.InvalidRequest.of("rows", f"{_name(path)} holds neither a list of objects nor one of columns")
    return found


def _parquet(content: bytes, path: Path) -> Any:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise errors.InvalidRequest.of("rows", f"reading {_name(path)} needs pyarrow: pip install pyarrow") from exc
    try:
        return pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as exc:
        raise errors.InvalidRequest.of("rows", f"{_name(path)} is no Parquet: {exc}") from exc


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else repr(str(path))
