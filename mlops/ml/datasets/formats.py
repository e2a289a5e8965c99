"""Which format a source has, by its first bytes and by its name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pyarrow as pa

from mlops import errors
from mlops.jobs.dataset import DataFormat
from mlops.ml.datasets.refusal import refusing

_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_COMPRESSION_SUFFIXES = {".gz", ".gzip", ".bz2", ".zst", ".zstd", ".lz4"}
_MAGIC = {b"PAR1": DataFormat.PARQUET, b"ARROW1": DataFormat.ARROW, b"\xff\xff\xff\xff": DataFormat.ARROW}
_SUFFIXES = {
    ".csv": DataFormat.CSV,
    ".tsv": DataFormat.CSV,
    ".tab": DataFormat.CSV,
    ".txt": DataFormat.CSV,
    ".data": DataFormat.CSV,
    ".parquet": DataFormat.PARQUET,
    ".pq": DataFormat.PARQUET,
    ".arrow": DataFormat.ARROW,
    ".arrows": DataFormat.ARROW,
    ".ipc": DataFormat.ARROW,
    ".feather": DataFormat.ARROW,
    ".jsonl": DataFormat.JSONL,
    ".ndjson": DataFormat.JSONL,
    ".json": DataFormat.JSONL,
}
_READ = "CSV, Parquet, Arrow IPC and JSON lines are read"
_STRANGERS = {
    b"PK\x03\x04": "a ZIP archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"FEA1": "Feather version 1",
    b"\xfd7zXZ": "compressed with xz",
    b"\x89HDF": "HDF5",
    b"\x93NUMPY": "a NumPy array",
    b"\x80\x04\x95": "a pickle",
    b"\x80\x05\x95": "a pickle",
    b"%PDF": "a PDF",
}
_CHUNK_BYTES = 8 * 1024**2
# A compressed source may not grow beyond both: a few kilobytes could fill the disk of a shared machine.
_MOST_GROWTH = 200
_GROWTH_FLOOR_BYTES = 1024**3


def unpacked(source: Path, scratch: Path) -> Path:
    """The source itself, or its decompressed bytes below `scratch` (gzip, bz2, zstd and lz4, by their first bytes)."""
    head = _head(source)
    compression = next((name for magic, name in _COMPRESSIONS.items() if head.startswith(magic)), None)
    if compression is None:
        return source
    plain = scratch / "plain"
    most = max(_GROWTH_FLOOR_BYTES, _MOST_GROWTH * source.stat().st_size)
    with (
        refusing(f"The {compression} data is damaged", hint="Compress the file again, or send it as it is"),
        source.open("rb") as packed,
        pa.CompressedInputStream(packed, compression) as stream,
        plain.open("wb") as target,
    ):
        while chunk := stream.read(_CHUNK_BYTES):
            target.write(chunk)
            if target.tell() > most:
                raise errors.DataInvalid(
                    f"The {compression} data grows to more than {most} bytes", hint="Send the file uncompressed"
                )
    return plain


def detect(path: Path, source_name: str) -> DataFormat:
    """The format by the first bytes, else by the name's suffix, else by what the text looks like."""
    head = _head(path)
    for magic, found in _MAGIC.items():
        if head.startswith(magic):
            return found
    for magic, stranger in _STRANGERS.items():
        if head.startswith(magic):
            raise errors.DataInvalid(f"The file is {stranger}", hint=f"{_READ}; convert it to one of them")
    suffixes = [suffix.lower() for suffix in PurePosixPath(source_name).suffixes]
    while suffixes and suffixes[-1] in _COMPRESSION_SUFFIXES:
        suffixes.pop()
    by_name = _SUFFIXES.get(suffixes[-1]) if suffixes else None
    if by_name in (DataFormat.PARQUET, DataFormat.ARROW):
        raise errors.DataInvalid(
            f"{source_name!r} is called {by_name.value}, but does not begin like it", hint=f"{_READ}; name the format"
        )
    if by_name is not None:
        return by_name
    return DataFormat.JSONL if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") else DataFormat.CSV


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64)
