"""Writes a result file in any of the output formats, a block of rows after the other."""

from __future__ import annotations

import json
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlops import errors
from mlops.jobs.inference import OutputFormat
from mlops.ml.batch.columns import ROW

# Rows are gathered into row groups of this many, however small the blocks are that arrive.
ROW_GROUP_ROWS = 256 * 1024


class Writer(Protocol):
    """A file that grows by record batches of one schema."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write_batch(self, batch: Any) -> None:
        """Appends rows."""


def stored_schema(schema: Any, output_format: OutputFormat) -> Any:
    """The schema as the format keeps it: an Arrow file has one dictionary a column, and blocks bring theirs."""
    if output_format is OutputFormat.PARQUET:
        return schema
    return pa.schema(
        [
            pa.field(field.name, field.type.value_type if pa.types.is_dictionary(field.type) else field.type)
            for field in schema
        ]
    )


def open_writer(path: Path, schema: Any, output_format: OutputFormat, *, plain: tuple[str, ...] = ()) -> Writer:
    """A writer to `path`. schema: as `stored_schema` gives it.

    plain: columns whose values hardly repeat: Parquet makes no dictionary of them. Raises DataInvalid for a column
    that the format cannot hold.
    """
    match output_format:
        case OutputFormat.PARQUET:
            return _ParquetWriter(path, schema, plain)
        case OutputFormat.ARROW:
            writer: Writer = pa.ipc.new_file(str(path), schema)
            return writer
        case OutputFormat.CSV:
            nested = [field.name for field in schema if pa.types.is_nested(field.type)]
            if nested:
                raise errors.DataInvalid(
                    f"the column {nested[0]!r} cannot be carried into CSV: it is nested",
                    hint="Leave it out, or take another output format.",
                )
            csv: Writer = pa_csv.CSVWriter(str(path), schema)
            return csv
        case OutputFormat.JSONL:
            return _JsonLinesWriter(path)


class _ParquetWriter:
    def __init__(self, path: Path, schema: Any, plain: tuple[str, ...]) -> None:
        # A row's number is one more than the last: a difference costs a bit or two.
        encoding = {ROW: "DELTA_BINARY_PACKED"} if ROW in schema.names else None
        apart = {ROW, *plain}
        self._writer = pq.ParquetWriter(
            str(path),
            schema,
            use_dictionary=[name for name in schema.names if name not in apart],
            column_encoding=encoding,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write_batch(self, batch: Any) -> None:
        """Appends rows to the open row group."""
        self._writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)


class _JsonLinesWriter:
    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def write_batch(self, batch: Any) -> None:
        """Appends a line a row."""
        self._file.writelines(f"{json_line(row)}\n" for row in batch.to_pylist())


def json_line(row: dict[str, Any]) -> str:
    """A row as one JSON object: numbers exactly, times as ISO 8601, and what JSON has no word for as null."""
    return json.dumps({name: _plain(value) for name, value in row.items()}, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
