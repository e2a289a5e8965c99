"""A dataset as estimators get it, mapped from its canonical Arrow file.

    numeric      int64 or float64 with NaN; shares the map, no value is copied
    boolean      bool
    categorical  pandas.Categorical of str, NaN for missing values: HistGradientBoosting takes it as it is, and the
                 encoders and imputers take it as an array of str and NaN
    text         str objects, "" for missing values, as vectorizers need them
    datetime     float64: seconds since 1970 in UTC, NaN for missing values

Where all columns are numbers of one type, the frame is a single two-dimensional view of the map, so that a fit on
it makes no copy either. 200 MB of numbers load in about a millisecond.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops import errors
from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.training import Task

_MICROS_A_SECOND = 1e6


def load_frame(path: Path, columns: Sequence[Column]) -> pd.DataFrame:
    """The columns, in that order. Arrays are read-only. Raises DataInvalid for a column that is not there."""
    arrays = _read(path, [column.name for column in columns])
    names = pd.Index([column.name for column in columns], dtype=object)
    if columns and all(column.kind is ColumnKind.NUMERIC for column in columns):
        matrix = _matrix([array.to_numpy(zero_copy_only=True) for array in arrays])
        if matrix is not None:
            return pd.DataFrame(matrix, columns=names, copy=False)
    values = {index: _values(column, array) for index, (column, array) in enumerate(zip(columns, arrays, strict=True))}
    frame = pd.DataFrame(values, copy=False, index=None if values else pd.RangeIndex(_rows(path)))
    frame.columns = names
    return frame


def target_mask(path: Path, column: Column) -> npt.NDArray[np.bool_]:
    """bool (n,): which rows have a value in that column; the others are not trained on."""
    array = _read(path, [column.name])[0]
    present = pc.is_valid(array)
    if pa.types.is_floating(array.type):
        present = pc.and_(present, pc.invert(pc.is_nan(array)))
    mask: npt.NDArray[np.bool_] = present.to_numpy(zero_copy_only=False)
    return mask


def load_target(path: Path, column: Column, task: Task) -> npt.NDArray[Any]:
    """The target of the rows that have one (see `target_mask`), in their order.

    Classification: str, bool, or int64. Regression: float64, booleans as 0 and 1. Raises DataInvalid where the
    column's kind or its values do not suit the task.
    """
    array = _read(path, [column.name])[0]
    array = array.filter(pc.invert(pc.is_nan(array))) if pa.types.is_floating(array.type) else array.drop_null()
    return _labels(column, array) if task is Task.CLASSIFICATION else _numbers(column, array)


def _labels(column: Column, array: Any) -> npt.NDArray[Any]:
    if column.kind is ColumnKind.DATETIME:
        raise _unsuited(column, Task.CLASSIFICATION, "it holds times")
    if column.kind is ColumnKind.TEXT:
        array = array.dictionary_encode()
    if pa.types.is_dictionary(array.type):
        labels = np.asarray(array.dictionary.to_pylist(), dtype=np.str_)
        found: npt.NDArray[Any] = labels[array.indices.to_numpy(zero_copy_only=False)]
        return found
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind != "f":
        return values
    odd = values[~(np.floor(values) == values) | np.isinf(values)]
    if len(odd):
        raise _unsuited(column, Task.CLASSIFICATION, f"it holds {odd[0]:g}, which names no class")
    return values.astype(np.int64)


def _numbers(column: Column, array: Any) -> npt.NDArray[np.float64]:
    if column.kind not in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN):
        raise _unsuited(column, Task.REGRESSION, f"it is {column.kind.value}")
    values: npt.NDArray[np.float64] = array.to_numpy(zero_copy_only=False).astype(np.float64)
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise _unsuited(column, Task.REGRESSION, f"it is infinite in {infinite} rows")
    return values


def _unsuited(column: Column, task: Task, problem: str) -> errors.DataInvalid:
    other = Task.REGRESSION if task is Task.CLASSIFICATION else Task.CLASSIFICATION
    return errors.DataInvalid(
        f"Column {column.name!r} cannot be the target of a {task.value}: {problem}",
        hint=f"Choose another target, or ask for a {other.value}",
    )


def _values(column: Column, array: Any) -> Any:
    if column.kind is ColumnKind.CATEGORICAL:
        codes = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
        return pd.Categorical.from_codes(codes, categories=pd.Index(array.dictionary.to_pylist(), dtype=object))
    if column.kind is ColumnKind.TEXT:
        return pd.Series(pc.fill_null(array, "").to_numpy(zero_copy_only=False), dtype=object)
    if column.kind is ColumnKind.DATETIME:
        micros = array.cast(pa.int64()).cast(pa.float64(), safe=False)
        return pc.divide(micros, _MICROS_A_SECOND).to_numpy(zero_copy_only=False)
    return array.to_numpy(zero_copy_only=False)


def _read(path: Path, names: list[str]) -> list[Any]:
    """The columns as contiguous arrays of the map."""
    mapped = pa.memory_map(str(path))
    schema = pa.ipc.open_file(mapped).schema
    missing = [name for name in names if schema.get_field_index(name) < 0]
    if missing:
        raise errors.DataInvalid(f"The dataset has no column {missing[0]!r}")
    if not names:
        return []
    # The whole batch, and not IpcReadOptions.included_fields: that one copies what it reads.
    batch = pa.ipc.open_file(mapped).get_batch(0)
    return [batch.column(name) for name in names]


def _rows(path: Path) -> int:
    rows: int = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).num_rows
    return rows


def _matrix(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any] | None:
    """A view (n, columns) of arrays that lie in memory at equal distances, as the columns of one file do."""
    first = arrays[0]
    addresses = [array.__array_interface__["data"][0] for array in arrays]
    steps = {after - before for before, after in pairwise(addresses)}
    if len({array.dtype for array in arrays}) > 1 or len(steps) != 1 or min(steps) < first.nbytes:
        return None
    step = steps.pop()
    if step % first.itemsize:
        return None
    # The base keeps the map alive; the last column ends it, so that the view stays inside.
    return np.lib.stride_tricks.as_strided(
        first, shape=(len(first), len(arrays)), strides=(first.itemsize, step), writeable=False
    )
