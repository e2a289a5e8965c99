"""CSV as columns of text. What a column's texts stand for is decided later, with all of them in sight.

A reader that decides by its first block gives up at the first later surprise, so none is asked to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv

from mlops import errors
from mlops.jobs.dataset import ReadOptions
from mlops.ml.datasets.dialect import Dialect, encodings, sniff
from mlops.ml.datasets.refusal import brief, refusing
from mlops.ml.datasets.source import SpilledColumns, TextMeaning, check_names
from mlops.ml.progress import Report

_BLOCK_BYTES = 8 * 1024**2
_TAIL_BYTES = 64
_HINT = "Check the delimiter, the quote and the encoding, or state them in the read options"


def open_csv(path: Path, options: ReadOptions, scratch: Path, report: Report) -> SpilledColumns:
    """The columns of a CSV file. Raises DataInvalid."""
    failure: Exception = UnicodeError("no encoding fits")
    tried = encodings(path, options)
    for encoding in tried:
        try:
            dialect = sniff(path, options, encoding)
            check_names(dialect.names)
            spill = scratch / f"csv-{encoding}.arrow"
            with refusing("The CSV data cannot be read", hint=_HINT):
                _spill(path, dialect, spill, report)
        except UnicodeError as exc:
            failure = exc
        except errors.DataInvalid as exc:
            if not _is_encoding_error(exc.__cause__):
                raise
            failure = exc
        else:
            return SpilledColumns(
                spill, dialect.names, text_meaning=TextMeaning.ANYTHING, decimal_comma=dialect.delimiter != ","
            )
    raise errors.DataInvalid(f"The text is not in {' or '.join(tried)}: {brief(failure)}", hint=_HINT) from failure


def _is_encoding_error(exc: BaseException | None) -> bool:
    return isinstance(exc, UnicodeError) or "invalid UTF8" in str(exc)


def _spill(path: Path, dialect: Dialect, spill: Path, report: Report) -> None:
    # Names of our own: pyarrow looks columns up by name, and the file's may be odd.
    names = [str(index) for index in range(len(dialect.names))]
    schema = pa.schema([(name, pa.string()) for name in names])
    total = path.stat().st_size
    with path.open("rb") as file:
        if dialect.encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            _skip_mark(file)
        reader = pa_csv.open_csv(
            file,
            read_options=pa_csv.ReadOptions(
                block_size=_BLOCK_BYTES,
                column_names=names,
                skip_rows_after_names=int(dialect.has_header),
                encoding=dialect.encoding,
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=dialect.delimiter, quote_char=dialect.quote, newlines_in_values=True
            ),
            convert_options=pa_csv.ConvertOptions(column_types=schema, strings_can_be_null=False),
        )
        last: str | None = None
        with reader, pa.OSFile(str(spill), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                last = batch.column(batch.num_columns - 1)[-1].as_py() if batch.num_rows else last
                report(min(file.tell() / max(total, 1), 1.0) * 0.5, "reading rows")
    _check_closed(path, dialect, last)


def _check_closed(path: Path, dialect: Dialect, last: str | None) -> None:
    """A quote that is never closed makes the rest of the file one value, and pyarrow does not mind."""
    if last is None or not ("\n" in last or "\r" in last):
        return
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        tail = file.read().decode(dialect.encoding, errors="ignore")
    if not tail.rstrip().endswith(dialect.quote):
        raise errors.DataInvalid(
            f"A quote ({dialect.quote}) is opened and never closed; from there on, the file is one value", hint=_HINT
        )


def _skip_mark(file: Any) -> None:
    """Leaves a byte order mark out."""
    if file.read(2) not in (b"\xff\xfe", b"\xfe\xff"):
        file.seek(0)
