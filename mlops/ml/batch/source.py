"""What the shards of a batch job are read from: any rows of any columns, with no more in memory than a block."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mlops import errors
from mlops.jobs.dataset import ColumnKind
from mlops.ml.datasets.kinds import kind_of_type
from mlops.ml.datasets.refusal import refusing
from mlops.ml.datasets.source import check_names, is_pandas_index, plausible_bytes

CANONICAL = "canonical"
PARQUET = "parquet"
ARROW = "arrow"

_FIRST_ROWS = 1000


class BatchSource(Protocol):
    """A table in a file.

    types: Arrow type of each column, in order. parts: rows of each piece (a row group, a record batch) that can
    only be read as a whole.
    """

    rows: int
    types: dict[str, Any]
    parts: tuple[int, ...]

    def is_empty(self, name: str) -> bool:
        """Whether the file says cheaply that a column has no value at all."""

    def blocks(self, names: Sequence[str], start: int, stop: int, block_rows: int) -> Iterator[Any]:
        """Rows [start, stop) of these columns, in their order, as record batches of at most `block_rows` rows.

        Raises DataInvalid where the file is damaged.
        """


def open_source(path: Path, input_format: str, *, threads: int = 1) -> BatchSource:
    """The file at `path`, laid out as `input_format` says. Raises DataInvalid."""
    if input_format == CANONICAL:
        return CanonicalSource(path)
    if input_format == PARQUET:
        return ParquetSource(path, threads=threads)
    return ArrowSource(path)


def kinds_of(source: BatchSource, among: Sequence[str]) -> dict[str, ColumnKind | None]:
    """What each column holds, as jobs.inputs takes it. Of those `among`, None where the column has no value.

    Raises DataInvalid where one of them is of a type that no estimator takes.
    """
    kinds: dict[str, ColumnKind | None] = {name: kind_of_type(found) for name, found in source.types.items()}
    for name in among:
        if name not in kinds:
            continue
        if kinds[name] is None and not pa.types.is_null(source.types[name]):
            raise errors.DataInvalid(
                f"Column {name!r} is of type {source.types[name]}, which the model cannot take",
                hint="Turn it into numbers, texts, booleans or times",
            )
        if source.is_empty(name):
            kinds[name] = None
    return kinds


class CanonicalSource:
    """A canonical Arrow file, as ml.ingest writes it: one uncompressed record batch, mapped."""

    def __init__(self, path: Path) -> None:
        self._batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        self.types = {field.name: field.type for field in self._batch.schema}
        self.rows = self._batch.num_rows
        self.parts: tuple[int, ...] = ()

    def is_empty(self, name: str) -> bool:
        """Numbers are missing as NaN, everything else as null."""
        column = self._batch.column(self._batch.schema.get_field_index(name))
        if column.null_count == len(column):
            return True
        if not pa.types.is_floating(column.type) or not pc.all(pc.is_nan(column.slice(0, _FIRST_ROWS))).as_py():
            return False
        return bool(pc.all(pc.is_nan(column)).as_py())

    def blocks(self, names: Sequence[str], start: int, stop: int, block_rows: int) -> Iterator[Any]:
        """Slices of the map: nothing is copied."""
        indices = [self._batch.schema.get_field_index(name) for name in names]
        for first in range(start, stop, block_rows):
            rows = self._batch.slice(first, min(block_rows, stop - first))
            yield _batch([rows.column(index) for index in indices], names, rows.num_rows)


class ParquetSource:
    """A Parquet file: only the row groups that hold the rows are read, in passing."""

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        self._threads = threads
        self._plausible_bytes = plausible_bytes(path)
        with refusing("The Parquet data cannot be read", plausible_bytes=self._plausible_bytes):
            self._file = pq.ParquetFile(pa.memory_map(str(path)))
            schema = self._file.schema_arrow
        self.types = {field.name: field.type for field in schema if not is_pandas_index(field.name)}
        check_names(tuple(name for name in schema.names if not is_pandas_index(name)))
        metadata = self._file.metadata
        self.parts = tuple(metadata.row_group(index).num_rows for index in range(metadata.num_row_groups))
        self.rows = sum(self.parts)
        self._starts = [0, *itertools.accumulate(self.parts)]
        self._leaves = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}

    def is_empty(self, name: str) -> bool:
        """By the statistics of the row groups; where there are none, it is taken to have values."""
        if pa.types.is_null(self.types[name]):
            return True
        leaf = self._leaves.get(name)
        if leaf is None or not self.parts:
            return False
        for index, rows in enumerate(self.parts):
            statistics = self._file.metadata.row_group(index).column(leaf).statistics
            if statistics is None or not statistics.has_null_count or statistics.null_count < rows:
                return False
        return True

    def blocks(self, names: Sequence[str], start: int, stop: int, block_rows: int) -> Iterator[Any]:
        """Decodes from the first row group that overlaps; the rows before `start` are read and dropped."""
        first = max(bisect.bisect_right(self._starts, start) - 1, 0)
        last = max(bisect.bisect_left(self._starts, stop), first + 1)
        position = self._starts[first]
        batches = self._file.iter_batches(
            batch_size=block_rows,
            row_groups=list(range(first, min(last, len(self.parts)))),
            columns=list(names),
            use_threads=self._threads > 1,
        )
        while position < stop:
            with refusing("The Parquet data cannot be read", plausible_bytes=self._plausible_bytes):
                found = next(batches, None)
            if found is None:
                raise errors.DataInvalid(f"The Parquet data ends at row {position}, before its row {stop}")
            low, high = max(start - position, 0), min(stop - position, found.num_rows)
            position += found.num_rows
            if low < high:
                yield _validated(found, names, low, high)


class ArrowSource:
    """An Arrow IPC file that a stranger wrote: record batches, perhaps compressed. Each is read as a whole."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with refusing("The Arrow data cannot be read", plausible_bytes=plausible_bytes(path)):
            schema = pa.ipc.open_file(pa.memory_map(str(path))).schema
            check_names(tuple(name for name in schema.names if not is_pandas_index(name)))
            # One field alone: the others of a compressed batch stay packed.
            counting = self._open([0])
            self.parts = tuple(counting.get_batch(index).num_rows for index in range(counting.num_record_batches))
        self._fields = {name: index for index, name in enumerate(schema.names)}
        self.types = {field.name: field.type for field in schema if not is_pandas_index(field.name)}
        self.rows = sum(self.parts)
        self._starts = [0, *itertools.accumulate(self.parts)]

    def is_empty(self, name: str) -> bool:
        """Only the type tells."""
        return bool(pa.types.is_null(self.types[name]))

    def blocks(self, names: Sequence[str], start: int, stop: int, block_rows: int) -> Iterator[Any]:
        """Reads these fields of the batches that overlap."""
        # No field at all would stand for every one.
        reader = self._open(sorted(self._fields[name] for name in names) or [0])
        first = max(bisect.bisect_right(self._starts, start) - 1, 0)
        for index in range(first, len(self.parts)):
            position = self._starts[index]
            if position >= stop:
                return
            with refusing("The Arrow data cannot be read", plausible_bytes=plausible_bytes(self._path)):
                found = reader.get_batch(index)
            low, high = max(start - position, 0), min(stop - position, found.num_rows)
            for begin in range(low, high, block_rows):
                yield _validated(found, names, begin, min(begin + block_rows, high))

    def _open(self, fields: list[int]) -> Any:
        options = pa.ipc.IpcReadOptions(included_fields=fields)
        return pa.ipc.open_file(pa.memory_map(str(self._path)), options=options)


def _validated(batch: Any, names: Sequence[str], low: int, high: int) -> Any:
    """Rows [low, high) of these columns. What strangers wrote is checked where it points elsewhere in memory."""
    columns = []
    for name in names:
        column = batch.column(batch.schema.get_field_index(name)).slice(low, high - low)
        if not (pa.types.is_primitive(column.type) or pa.types.is_boolean(column.type)):
            with refusing(f"Column {name!r} cannot be read"):
                column.validate(full=True)
        columns.append(column)
    return _batch(columns, names, high - low)


def _batch(columns: list[Any], names: Sequence[str], rows: int) -> Any:
    """A record batch, which keeps its length without a column too."""
    if columns:
        return pa.record_batch(columns, names=list(names))
    return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
