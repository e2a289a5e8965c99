"""A column's summary: what a person sees of it, and what the choice of a task and of an estimator rests on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.jobs.dataset import Column, ColumnKind, ValueCount
from mlops.ml.datasets.kinds import Stored

_TOP = 20
# Distinct values are counted exactly in so many rows; in more, only where the first of them hold few.
_EXACT_ROWS = 1_000_000
_FEW = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def summarised(name: str, column: Stored) -> Column:
    """The column with its summary. `top_values` holds every value where 20 or fewer are distinct,
    unless the column is text, times, or numbers that are not whole.
    """
    array = column.array
    base = Column(name=name, kind=column.kind, arrow_type=str(array.type))
    if column.kind is ColumnKind.NUMERIC:
        return _of_numbers(base, array)
    counts: dict[str, Any] = {"null_count": array.null_count}
    if column.kind is ColumnKind.CATEGORICAL:
        found = pc.value_counts(array.indices.drop_null())
        labels = array.dictionary.take(found.field("values"))
        counts |= {"distinct_count": len(found), "top_values": _top(labels, found.field("counts"))}
    elif column.kind is ColumnKind.BOOLEAN:
        found = pc.value_counts(array)
        labels = found.field("values").cast(pa.string())
        counts |= {"distinct_count": len(found), "top_values": _top(labels, found.field("counts"))}
    else:
        counts |= _distinct(array)
    if column.kind is ColumnKind.DATETIME:
        bounds = pc.min_max(array.cast(pa.int64())).as_py()
        if bounds["min"] is not None:
            counts |= {"earliest": _time(bounds["min"]), "latest": _time(bounds["max"])}
    return base.model_copy(update=counts)


def _of_numbers(base: Column, array: Any) -> Column:
    """Mean and standard deviation (of the population) are over the values that are not missing."""
    is_float = pa.types.is_floating(array.type)
    missing = pc.is_nan(array) if is_float else None
    nulls = pc.sum(missing).as_py() if is_float and len(array) else 0
    values = array.filter(pc.invert(missing)) if nulls else array
    if not len(values):
        return base.model_copy(update={"null_count": nulls})
    bounds = pc.min_max(values).as_py()
    numbers: np.ndarray[Any, np.dtype[np.float64]] = values.cast(pa.float64(), safe=False).to_numpy(
        zero_copy_only=False
    )
    with np.errstate(all="ignore"):
        mean, deviation = float(numbers.mean()), float(numbers.std())
    counts = _distinct(values)
    if counts["distinct_count"] <= _FEW:
        # A full count is cheap where there is little to count.
        found = pc.value_counts(values)
        labels, exact = found.field("values"), len(found)
        counts = {"distinct_count": exact, "distinct_is_exact": True}
        whole = _whole(labels)
        if whole is not None and exact <= _FEW:
            counts["top_values"] = _top(whole, found.field("counts"))
    return base.model_copy(
        update={
            "null_count": nulls,
            "minimum": float(bounds["min"]),
            "maximum": float(bounds["max"]),
            "mean": mean,
            "standard_deviation": deviation,
            **counts,
        }
    )


def _distinct(array: Any) -> dict[str, Any]:
    first = array.slice(0, _EXACT_ROWS)
    return {"distinct_count": pc.count_distinct(first).as_py(), "distinct_is_exact": len(array) <= _EXACT_ROWS}


def _whole(values: Any) -> Any | None:
    """The values as integers, or None where they are not whole."""
    try:
        return values.cast(pa.int64())
    except pa.ArrowInvalid:
        return None


def _top(values: Any, counts: Any) -> tuple[ValueCount, ...]:
    """The most frequent first; among equals, the smaller value."""
    table = pa.table({"value": values, "count": counts})
    order = pc.select_k_unstable(table, min(_TOP, len(table)), [("count", "descending"), ("value", "ascending")])
    rows = table.take(order).to_pylist()
    return tuple(ValueCount(value=str(row["value"]), count=row["count"]) for row in rows)


def _time(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
