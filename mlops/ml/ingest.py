"""Reads a source of any format into the canonical Arrow file that training maps into memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlops import errors
from mlops.jobs.dataset import Column, DataFormat, DatasetPreview, DatasetProfile, IngestTask, ReadOptions
from mlops.ml.datasets.delimited import open_csv
from mlops.ml.datasets.formats import detect, unpacked
from mlops.ml.datasets.jsonlines import JsonColumns
from mlops.ml.datasets.kinds import Reading, stored
from mlops.ml.datasets.preview import cells, preview_rows
from mlops.ml.datasets.source import Columns, check_names, open_typed
from mlops.ml.datasets.summary import summarised
from mlops.ml.progress import Report

DATA_FILE = "data.arrow"
PREVIEW_FILE = "preview.json"
# Finished columns beyond this wait on disk for the file to be written.
_HELD_BYTES = 512 * 1024**2


@dataclass(frozen=True, kw_only=True)
class IngestCall:
    """What to read, and the directory that DATA_FILE and PREVIEW_FILE are written to. Scratch files go beside it."""

    task: IngestTask
    source: Path
    out: Path


def ingest(call: IngestCall, report: Report) -> DatasetProfile:
    """Writes the canonical Arrow file (uncompressed, one record batch: a map of it is the data) and the preview.

    Memory holds a block of rows, then one column at a time. Raises DataInvalid for whatever is wrong with the
    source, StorageUnavailable where this host's disk is full.
    """
    options = call.task.read_options
    with tempfile.TemporaryDirectory(dir=call.out.parent, prefix="ingest-") as directory:
        scratch = Path(directory)
        report(0.0, "looking at the source")
        form, columns = open_columns(call.source, call.task.source_name, options, scratch, report)
        check_names(columns.names)
        unknown = sorted(set(options.column_kinds) - set(columns.names))
        if unknown:
            raise errors.DataInvalid(
                f"There is no column {unknown[0]!r}, for which a kind is asked",
                hint=f"The columns are {', '.join(columns.names[:20])}{' …' if len(columns.names) > 20 else ''}",
            )
        described, shown, arrays = _convert(columns, options, scratch, report)
        report(0.95, "writing")
        write_canonical(call.out / DATA_FILE, columns.names, arrays)
    preview = DatasetPreview(columns=columns.names, rows=tuple(zip(*shown, strict=True)))
    (call.out / PREVIEW_FILE).write_text(preview.model_dump_json(), encoding="utf-8")
    report(1.0, "done")
    return DatasetProfile(
        format=form,
        rows=len(arrays[0]),
        columns=tuple(described),
        stored_bytes=(call.out / DATA_FILE).stat().st_size,
    )


def open_columns(
    source: Path, source_name: str, options: ReadOptions, scratch: Path, report: Report
) -> tuple[DataFormat, Columns]:
    """The columns of a source of any format, packed or not. Scratch files go below `scratch`. Raises DataInvalid."""
    if source.stat().st_size == 0:
        raise errors.DataInvalid("The file is empty")
    path = unpacked(source, scratch)
    form = options.format or detect(path, source_name)
    if form is DataFormat.CSV:
        return form, open_csv(path, options, scratch, report)
    if form is DataFormat.JSONL:
        return form, JsonColumns(path, scratch, report)
    return form, open_typed(path, form)


class Parking:
    """Finished columns that wait for their file to be written: in memory, and the later ones on disk."""

    def __init__(self, scratch: Path) -> None:
        self.arrays: list[Any] = []
        self._scratch = scratch
        self._held_bytes = 0

    def add(self, array: Any) -> None:
        """Takes a column in."""
        self._held_bytes += array.nbytes
        if self._held_bytes > _HELD_BYTES:
            path = self._scratch / f"column-{len(self.arrays)}"
            write_canonical(path, ("",), [array])
            array = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column(0)
        self.arrays.append(array)


def write_canonical(path: Path, names: Sequence[str], arrays: list[Any]) -> None:
    """Writes columns of one length as an uncompressed Arrow file of one record batch."""
    batch = pa.record_batch(arrays, names=list(names))
    options = pa.ipc.IpcWriteOptions(compression=None, allow_64bit=True)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)


def _convert(
    columns: Columns, options: ReadOptions, scratch: Path, report: Report
) -> tuple[list[Column], list[list[str | None]], list[Any]]:
    """Each column's summary, its first cells, and its stored form."""
    reading = Reading(
        text_meaning=columns.text_meaning, decimal_comma=columns.decimal_comma, null_values=options.null_values
    )
    described: list[Column] = []
    shown: list[list[str | None]] = []
    parking = Parking(scratch)
    rows = preview_rows(len(columns.names))
    for index, name in enumerate(columns.names):
        report(0.5 + 0.45 * index / len(columns.names), f"column {index + 1} of {len(columns.names)}")
        raw = columns.column(index)
        if not len(raw):
            raise errors.DataInvalid("The data has no rows")
        column = stored(name, raw, reading, wanted=options.column_kinds.get(name))
        del raw
        described.append(summarised(name, column))
        shown.append(cells(column, rows))
        parking.add(column.array)
    return described, shown, parking.arrays
