"""A dataset: what was handed over, and what was found in it."""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from mlops.jobs.value import Value


class DataFormat(StrEnum):
    """How the bytes of a source are laid out."""

    CSV = "csv"
    PARQUET = "parquet"
    ARROW = "arrow"  # Arrow IPC, file or stream
    JSONL = "jsonl"  # one JSON object a line


class ColumnKind(StrEnum):
    """What a column means to training."""

    NUMERIC = "numeric"
    BOOLEAN = "boolean"
    CATEGORICAL = "categorical"
    TEXT = "text"
    DATETIME = "datetime"


class ReadOptions(Value):
    """How to read a source. Whatever is left out is inferred."""

    format: DataFormat | None = None
    # CSV only: one character each.
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    quote: str | None = Field(default=None, min_length=1, max_length=1)
    encoding: str | None = Field(default=None, max_length=40)
    has_header: bool | None = None
    # Texts that mean "missing", besides the empty one.
    null_values: tuple[str, ...] = ()
    # Column name to the kind that it is to have.
    column_kinds: dict[str, ColumnKind] = Field(default_factory=dict)

    def canonical(self) -> str:
        """The same options always give the same text."""

        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


class ValueCount(Value):
    """How often a value occurs."""

    value: str
    count: int


class Column(Value):
    """One column and its summary. Numbers are float64; datetimes are summarised as ISO 8601 texts."""

    name: str
    kind: ColumnKind
    # The Arrow type it is stored as: double, int64, dictionary<…>, timestamp[us, tz=UTC].
    arrow_type: str
    null_count: int = 0
    # Distinct non-missing values; a lower bound where `distinct_is_exact` is false.
    distinct_count: int = 0
    distinct_is_exact: bool = True
    # Numeric columns only.
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    # Datetime columns only.
    earliest: datetime | None = None
    latest: datetime | None = None
    # The most frequent values (at most 20) of boolean, categorical and low-cardinality integer columns.
    top_values: tuple[ValueCount, ...] = ()


class DatasetProfile(Value):
    """What reading a source found."""

    format: DataFormat
    rows: int
    columns: tuple[Column, ...]
    # Size of the canonical Arrow file.
    stored_bytes: int


class Dataset(Value):
    """A dataset of a tenant. Its id is a hash of its bytes and of how they were read."""

    id: str
    name: str
    # SHA-256 of the source's bytes, in hex.
    sha256: str
    size_bytes: int
    # Where it came from: a URI, or "" for an upload.
    source_uri: str = ""
    read_options: ReadOptions = ReadOptions()
    profile: DatasetProfile
    owner: str
    created_at: datetime
    labels: dict[str, str] = Field(default_factory=dict)

    def column(self, name: str) -> Column | None:
        """The column of that name."""
        return next((column for column in self.profile.columns if column.name == name), None)


class DatasetPreview(Value):
    """The first rows (at most 1000) as text; None is a missing value. Written when the dataset is read."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | None, ...], ...]


class IngestJob(Value):
    """Take in a source: either bytes that are already stored (sha256), or a URI to copy first."""

    tenant: str
    # SHA-256 of stored bytes; None with a URI.
    sha256: str | None = None
    uri: str | None = None
    # The original file's name or the URI: its suffix hints at the format.
    source_name: str
    read_options: ReadOptions
    max_bytes: int


class Source(Value):
    """Bytes that are stored."""

    sha256: str
    size_bytes: int


class IngestTask(Value):
    """Read stored bytes into the canonical Arrow file."""

    tenant: str
    dataset_id: str
    sha256: str
    source_name: str
    read_options: ReadOptions


class IngestedFiles(Value):
    """What taking in a source left in storage; the profile, which may be large, stays there."""

    dataset_id: str
    sha256: str
    size_bytes: int


class Ingested(IngestedFiles):
    """What taking in a source gave."""

    profile: DatasetProfile
