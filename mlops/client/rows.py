"""What a caller hands over to be predicted, as a mlops.v1.Frame.

pandas, numpy and pyarrow are never imported here: what comes from them brings what is needed along.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mlops import errors
from mlops.v1.models_pb2 import Frame, FrameColumn
from mlops.wire import frames
from mlops.wire.frames import UnfitColumn

# Of pandas' and numpy's NaT, as a number.
_NOT_A_TIME = -(2**63)
_EARLIEST_MICROS, _LATEST_MICROS = -62_135_596_800_000_000, 253_402_300_799_999_999


def rows_frame(rows: object) -> Frame:
    """The Frame of a pandas DataFrame, a mapping of columns, a list of dicts, or a pyarrow Table (or `to_arrow()`).

    Its index is not sent. Raises InvalidRequest for anything else, and for columns that cannot be sent, each by name.
    """
    frame = Frame()
    problems: dict[str, str] = {}
    for name, values in _columns(rows):
        try:
            _put(frames.add_column(frame, name), values)
        except UnfitColumn as problem:
            problems[name] = str(problem)
    frames.check_columns(frame, problems)
    return frame


def is_from(package: str, value: object) -> bool:
    """Whether the value's class is one of this package's."""
    return type(value).__module__.partition(".")[0] == package


def _columns(rows: Any) -> Iterable[tuple[str, Any]]:
    if is_from("pandas", rows) and hasattr(rows, "columns"):
        return [(str(name), values) for name, values in _pandas_columns(rows)]
    if is_from("pyarrow", rows) and hasattr(rows, "column_names"):
        return list(zip(rows.column_names, rows.columns, strict=True))
    if isinstance(rows, Mapping):
        return [(str(name), values) for name, values in rows.items()]
    if hasattr(rows, "to_arrow"):
        return _columns(rows.to_arrow())
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        return _turned(rows)
    raise errors.InvalidRequest.of(
        "rows",
        f"{type(rows).__module__}.{type(rows).__qualname__} is no table; "
        "pass a DataFrame, a mapping of columns, a list of dicts or a pyarrow Table",
    )


def _pandas_columns(rows: Any) -> Iterable[tuple[Any, Any]]:
    dtypes = set(rows.dtypes)
    # Taking a DataFrame apart costs more than predicting a row: where all columns are alike, it stays whole.
    if len(dtypes) == 1 and is_from("numpy", (dtype := dtypes.pop())) and dtype.kind in "fiub":
        return zip(rows.columns, rows.to_numpy().T, strict=True)
    return rows.items()  # type: ignore[no-any-return]  # pandas is not imported here


def _turned(rows: Sequence[Any]) -> Iterable[tuple[str, list[Any]]]:
    """The columns of a list of dicts; what a row does not have is missing there."""
    columns: dict[str, list[Any]] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise errors.InvalidRequest.of(
                "rows", f"row {number} is a {type(row).__qualname__}; every row of a list has to be a dict"
            )
        for name, value in row.items():
            column = columns.setdefault(str(name), [])
            if len(column) <= number:
                column.extend([None] * (number - len(column)))
                column.append(value)
    return [(name, column + [None] * (len(rows) - len(column))) for name, column in columns.items()]


def _put(column: FrameColumn, values: Any) -> None:
    if is_from("pandas", values) or is_from("numpy", values):
        _put_array(column, values)
    elif is_from("pyarrow", values):
        _put_arrow(column, values)
    elif isinstance(values, Iterable) and not isinstance(values, str | bytes | Mapping):
        frames.put_values(column, values)
    else:
        raise UnfitColumn("is no list of values; write one row as [{column: value}]")


def _put_array(column: FrameColumn, values: Any) -> None:
    """A column of pandas or numpy. What numpy stores plainly goes over without a look at each value."""
    dtype = getattr(values, "dtype", None)
    if dtype is None or getattr(values, "ndim", 1) != 1:
        raise UnfitColumn("is no column: it has other than one dimension")
    if type(dtype).__name__ == "CategoricalDtype":
        # The labels of categories are texts, whatever they were.
        frames.put_values(column, (_label(value) for value in values.tolist()))
        return
    if dtype.kind == "M" and "ArrowDtype" not in type(dtype).__name__:
        _put_moments(column, values)
        return
    # Of pandas' own dtypes (masked, Arrow, strings) each value may be missing.
    if not type(dtype).__module__.startswith("numpy") or dtype.kind == "O":
        frames.put_values(column, values.tolist())
    elif dtype.kind == "f":
        frames.put_doubles(column, values.tolist())
    elif dtype.kind in "iu":
        frames.put_integers(column, values.tolist())
    elif dtype.kind == "b":
        frames.put_booleans(column, values.tolist())
    elif dtype.kind == "U":
        frames.put_texts(column, values.tolist())
    else:
        raise UnfitColumn(f"has dtype {dtype}; numbers, texts, truth values and times can be sent")


def _put_moments(column: FrameColumn, values: Any) -> None:
    # Of times with a zone, pandas gives numpy those in UTC.
    plain = values.to_numpy(dtype="datetime64[us]") if is_from("pandas", values) else values.astype("datetime64[us]")
    micros = plain.view("int64").tolist()
    missing = [row for row, value in enumerate(micros) if value == _NOT_A_TIME]
    column.missing.extend(missing)
    for row in missing:
        micros[row] = 0
    if micros and (min(micros) < _EARLIEST_MICROS or max(micros) > _LATEST_MICROS):
        raise UnfitColumn("holds a time outside of the years 1 to 9999")
    frames.put_times(column, micros)


def _put_arrow(column: FrameColumn, values: Any) -> None:
    """A column of pyarrow (Array or ChunkedArray)."""
    kind = str(values.type)
    if kind.startswith("dictionary"):
        frames.put_values(column, (_label(value) for value in values.to_pylist()))
        return
    if kind.startswith("timestamp"):
        # Nanoseconds are cut off: only pandas has a type for them. The cast takes a zone to UTC.
        values = values.cast("timestamp[us]", safe=False)
    try:
        plain = values.to_pylist()
    except (ValueError, OverflowError) as exc:
        raise UnfitColumn(f"holds a {kind} that Python has no value for: {exc}") from exc
    frames.put_values(column, plain)


def _label(value: Any) -> Any:
    """A category as a text, in the words that the platform stores it in: true, 1, 1.5."""
    if value is None or value != value or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value)
