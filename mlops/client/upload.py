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
from mlops.v1 import datasets_pb2

CHUNK_BYTES = 1024**2

# Called with (bytes sent, bytes in all), first with 0 and last with all of them, in a thread of gRPC.
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


class UploadMessages:
    """The messages of one upload, for gRPC's thread to iterate: the header, then chunks.

    failure: what went wrong with the file or the callback; whoever makes the call raises it.
    """

    def __init__(self, path: Path, header: datasets_pb2.UploadHeader, progress: ProgressCallback | None) -> None:
        self.failure: Exception | None = None
        self._messages = self._read(path, header, progress)

    def __iter__(self) -> Iterator[datasets_pb2.UploadDatasetRequest]:
        return self

    def __next__(self) -> datasets_pb2.UploadDatasetRequest:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as exc:
            # Raised here, gRPC would print it. Ended here, too few bytes arrive for the checksum: nothing is stored.
            self.failure = exc
            raise StopIteration from exc

    def _read(
        self, path: Path, header: datasets_pb2.UploadHeader, progress: ProgressCallback | None
    ) -> Iterator[datasets_pb2.UploadDatasetRequest]:
        sent = 0
        try:
            with path.open("rb") as file:
                yield datasets_pb2.UploadDatasetRequest(header=header)
                if progress:
                    progress(0, header.size_bytes)
                while chunk := file.read(CHUNK_BYTES):
                    yield datasets_pb2.UploadDatasetRequest(chunk=chunk)
                    sent += len(chunk)
                    if progress:
                        progress(sent, header.size_bytes)
        except OSError as exc:
            raise unreadable(path, exc) from exc


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
