"""What is uploaded: a file of its own, or a table that is written to a temporary one."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlops import errors

CHUNK_BYTES = 1024**2

# Called with (bytes sent, bytes in all), first with 0 and last with all of them, in the thread that sends.
ProgressCallback = Callable[[int, int], None]


@contextmanager
def source_file(data: object) -> Iterator[Path]:
    """The path of the bytes to send.

    data: a path, or a table: a pandas DataFrame (its index is not sent), a pyarrow Table, or anything with
    `to_arrow()` such as a polars DataFrame; tables are written as Parquet. Raises InvalidRequest for anything else,
    and where pyarrow is missing.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        if not path.exists():
            raise errors.InvalidRequest.of("data", f"the file {str(path)!r} does not exist")
        if not path.is_file():
            raise errors.InvalidRequest.of("data", f"{str(path)!r} is no file; pass the path of one file")
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="mlops-upload-") as directory:
        path = Path(directory) / "table.parquet"
        _write_table(data, path)
        yield path


def digest(path: Path) -> tuple[str, int]:
    """(SHA-256 in hex, size in bytes) of a file."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    except OSError as exc:
        raise unreadable(path, exc) from exc


def unreadable(path: Path, exc: OSError) -> errors.InvalidRequest:
    """The error for a file that cannot be read."""
    return errors.InvalidRequest.of("data", f"the file {str(path)!r} cannot be read: {exc.strerror or exc}")


def _write_table(data: Any, path: Path) -> None:
    kind = type(data)
    frame = f"{kind.__module__}.{kind.__qualname__}"
    is_pandas = kind.__module__.partition(".")[0] == "pandas" and hasattr(data, "columns")
    is_arrow = kind.__module__.partition(".")[0] == "pyarrow" and hasattr(data, "column_names")
    if not (is_pandas or is_arrow or hasattr(data, "to_arrow")):
        raise errors.InvalidRequest.of("data", f"{frame} is neither a path nor a table; pass a path or a DataFrame")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as exc:
        raise errors.InvalidRequest.of(
            "data", f"sending a {frame} needs pyarrow: pip install pyarrow, or save it to a file and pass its path"
        ) from exc
    try:
        table = pa.Table.from_pandas(data, preserve_index=False) if is_pandas else data
        if not (is_pandas or is_arrow):
            table = data.to_arrow()
        pq.write_table(table, path, compression="zstd")
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as exc:
        raise errors.InvalidRequest.of("data", f"the {frame} cannot be written as Parquet: {exc}") from exc
