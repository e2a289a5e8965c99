"""JSON lines as columns. A file is read twice where it is long: first for the types, then for the values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json

from mlops import errors
from mlops.ml.datasets.refusal import refusing
from mlops.ml.datasets.source import IpcColumns, TextMeaning, check_names, refuse_type
from mlops.ml.progress import Report

_BLOCK_BYTES = 16 * 1024**2
_HINT = 'Write one object a line: {"a": 1, "b": "x"}; pandas does with to_json(orient="records", lines=True)'


def open_jsonl(path: Path, scratch: Path, report: Report) -> IpcColumns:
    """The columns of a file of JSON lines. Raises DataInvalid."""
    with path.open("rb") as file:
        if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            raise errors.DataInvalid("The file is one JSON array, not JSON lines", hint=_HINT)
    spill = scratch / "jsonl.arrow"
    with refusing("The JSON lines cannot be read", hint=_HINT):
        types: dict[str, Any] = {}
        for number, table in enumerate(_tables(path, None), start=1):
            for field in table.schema:
                types[field.name] = _joined(field.name, types.get(field.name, pa.null()), field.type)
            report(None, f"looking at block {number}")
        check_names(tuple(types))
        schema = pa.schema([(name, pa.float64() if pa.types.is_null(kind) else kind) for name, kind in types.items()])
        with pa.OSFile(str(spill), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for number, table in enumerate(_tables(path, schema), start=1):
                writer.write_table(table.select(schema.names))
                report(None, f"reading block {number}")
    return IpcColumns(spill, text_meaning=TextMeaning.TIMES)


def _tables(path: Path, schema: Any) -> Iterator[Any]:
    for block in _blocks(path):
        if not block.strip():
            continue
        yield pa_json.read_json(
            pa.BufferReader(block),
            read_options=pa_json.ReadOptions(block_size=len(block) + 1),
            parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="infer"),
        )


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in blocks of whole lines."""
    with path.open("rb") as file:
        if file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        while block := file.read(_BLOCK_BYTES):
            yield block + file.readline()


def _joined(name: str, one: Any, other: Any) -> Any:
    """The type that holds the values of both."""
    if pa.types.is_nested(other):
        refuse_type(name, other)
    if one == other or pa.types.is_null(other):
        return one
    if pa.types.is_null(one):
        return other
    if {one, other} == {pa.int64(), pa.float64()}:
        return pa.float64()
    if all(pa.types.is_string(kind) or pa.types.is_timestamp(kind) for kind in (one, other)):
        return pa.string()
    raise errors.DataInvalid(
        f"Column {name!r} holds {one} on some lines and {other} on others", hint="Write the values in one way"
    )
