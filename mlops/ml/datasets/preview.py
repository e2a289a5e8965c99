"""The first rows of a dataset as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops.jobs.dataset import ColumnKind
from mlops.ml.datasets.kinds import Stored

_MOST_ROWS = 1000
_MOST_CELLS = 1_000_000
_LONGEST_CELL = 500
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def preview_rows(columns: int) -> int:
    """How many rows are shown of that many columns."""
    return max(1, min(_MOST_ROWS, _MOST_CELLS // max(columns, 1)))


def cells(column: Stored, rows: int) -> list[str | None]:
    """The column's first rows as text; None is a missing value. Long texts are cut, and end in an ellipsis."""
    first = column.array.slice(0, rows)
    if column.kind is ColumnKind.DATETIME:
        return [None if micros is None else _iso(micros) for micros in first.cast(pa.int64()).to_pylist()]
    if pa.types.is_floating(first.type):
        first = pc.if_else(pc.is_nan(first), pa.scalar(None, first.type), first)
    texts: list[str | None] = first.cast(pa.large_string()).to_pylist()
    return [_cut(text) for text in texts]


def _iso(micros: Any) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat().replace("+00:00", "Z")


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST_CELL else text[:_LONGEST_CELL] + "…"
