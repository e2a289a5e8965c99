"""Columns of Python values to a mlops.v1.Frame and back. Knows nothing of pandas, numpy or pyarrow.

What a column holds decides how it travels; None is a missing value, and so is NaN:

    int, where all are         integers
    float, or int and float    doubles; NaN stays NaN, None stands among the missing positions
    bool                       booleans
    str                        texts
    datetime, date             times in UTC (a time without a zone is UTC), to the microsecond
    nothing but missing ones   doubles, all missing

Columns of other values, or of more than one of these kinds, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from mlops.errors import InvalidRequest
from mlops.v1.models_pb2 import Frame, FrameColumn
from mlops.wire.fields import quote

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# How pandas' missing values are called, whose classes are not imported here.
_MISSING_TYPES = frozenset({"NAType", "NaTType"})
_WORDS = {bool: "truth values", int: "numbers", float: "numbers", str: "texts", datetime: "times"}


class UnfitColumn(ValueError):
    """A column that no Frame can hold; the message goes on behind the column's name."""


def build_frame(columns: Mapping[str, Sequence[object]]) -> Frame:
    """The Frame of these columns. Raises InvalidRequest, naming each column that it cannot hold."""
    frame = Frame()
    problems: dict[str, str] = {}
    for name, values in columns.items():
        try:
            put_values(add_column(frame, name), values)
        except UnfitColumn as problem:
            problems[name] = str(problem)
    check_columns(frame, problems)
    return frame


def parse_frame(frame: Frame) -> dict[str, list[Any]]:
    """The columns of a Frame as lists of int, float, bool, str or datetime in UTC; None where a value is missing."""
    return {column.name: _values(column) for column in frame.columns}


def check_columns(frame: Frame, problems: Mapping[str, str]) -> None:
    """Raises InvalidRequest for the problems found on the way, for a name used twice and for uneven lengths."""
    found = dict(problems)
    rows: int | None = None
    seen: set[str] = set()
    for column in frame.columns:
        if column.name in seen:
            found[column.name] = "is there twice"
        seen.add(column.name)
        if column.name in found:
            continue
        length = rows_of(column)
        rows = length if rows is None else rows
        if length != rows:
            found[column.name] = f"has {length} values where the first column has {rows}"
    if found:
        listed = "; ".join(f"column {name!r} {problem}" for name, problem in found.items())
        raise InvalidRequest(f"rows: {listed}", violations=found)


def rows_of(column: FrameColumn) -> int:
    """How many rows a column has."""
    content = column.WhichOneof("content")
    return 0 if content is None else len(getattr(column, content).values)


def add_column(frame: Frame, name: str) -> FrameColumn:
    """A new column at the end. Raises UnfitColumn for a name that is no Unicode."""
    column = frame.columns.add()
    try:
        column.name = name
    except ValueError as exc:
        column.name = name.encode("utf-8", "replace").decode()
        raise UnfitColumn(f"has a name that cannot be sent: {exc}") from exc
    return column


def put_values(column: FrameColumn, values: Iterable[object]) -> None:
    """Fills a column with values of any of the kinds above. Raises UnfitColumn for others, and for a mix."""
    plain: list[Any] = []
    # Of which kind the first value is that was met, by kind: to name it where they do not go together.
    kinds: dict[type, int] = {}
    missing: list[int] = []
    for row, value in enumerate(values):
        found = _plain(value, row)
        plain.append(found)
        if found is None or found != found:
            missing.append(row)
        else:
            kinds.setdefault(type(found), row)
    words = {_WORDS[kind]: row for kind, row in kinds.items()}
    if len(words) > 1:
        described = " and ".join(f"{word} ({quote(repr(plain[row]))} in row {row})" for word, row in words.items())
        raise UnfitColumn(f"holds {described}; make it one kind")
    kind = float if float in kinds else next(iter(kinds), None)
    if kind is float or kind is None:
        put_doubles(column, plain, missing if kind is None else [row for row in missing if plain[row] is None])
        return
    column.missing.extend(missing)
    if kind is int:
        put_integers(column, _filled(plain, missing, 0))
    elif kind is bool:
        put_booleans(column, _filled(plain, missing, False))
    elif kind is str:
        put_texts(column, _filled(plain, missing, ""))
    else:
        micros = ((moment - _EPOCH) // _MICROSECOND for moment in _filled(plain, missing, _EPOCH))
        put_times(column, micros)


def put_doubles(column: FrameColumn, values: Sequence[Any], missing: Sequence[int] = ()) -> None:
    """int and float; NaN is a missing one, and so is None, whose positions `missing` holds."""
    column.doubles.SetInParent()
    # A column of nothing but NaN may stand for texts as well: that it holds nothing is said expressly.
    is_empty = bool(values) and values[0] != values[0] and all(value != value for value in values)
    column.missing.extend(range(len(values)) if is_empty else missing)
    try:
        column.doubles.values.extend(values if not missing else [math.nan if v is None else v for v in values])
    except OverflowError as exc:
        raise UnfitColumn("holds a number that is too large for a double") from exc


def put_integers(column: FrameColumn, values: Iterable[int]) -> None:
    """Whole numbers of at most 64 bits."""
    column.integers.SetInParent()
    try:
        column.integers.values.extend(values)
    except (ValueError, OverflowError) as exc:
        raise UnfitColumn("holds a whole number beyond 64 bits; make it floats") from exc


def put_booleans(column: FrameColumn, values: Iterable[bool]) -> None:
    """Truth values."""
    column.booleans.SetInParent()
    column.booleans.values.extend(values)


def put_texts(column: FrameColumn, values: Iterable[str]) -> None:
    """Texts."""
    column.texts.SetInParent()
    try:
        column.texts.values.extend(values)
    except ValueError as exc:
        raise UnfitColumn(f"holds a text that cannot be sent: {exc}") from exc


def put_times(column: FrameColumn, micros: Iterable[int]) -> None:
    """Moments, in microseconds since 1970 in UTC."""
    column.times.SetInParent()
    moments = (divmod(value, 1_000_000) for value in micros)
    column.times.values.extend(Timestamp(seconds=seconds, nanos=rest * 1000) for seconds, rest in moments)


def _filled(values: list[Any], missing: Iterable[int], filler: object) -> list[Any]:
    for row in missing:
        values[row] = filler
    return values


def _plain(value: Any, row: int) -> bool | int | float | str | datetime | None:
    """The value as one of Python's own types, or None. Raises UnfitColumn."""
    kind = type(value)
    if value is None or kind in _WORDS:
        return _moment(value) if kind is datetime else value
    if kind.__name__ in _MISSING_TYPES:
        return None
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, date):
        return datetime.combine(value, time(), UTC)
    for own_kind in (int, float, str):
        if isinstance(value, own_kind):
            return own_kind(value)
    if isinstance(value, Decimal):
        return float(value)
    if kind.__module__.partition(".")[0] == "numpy" and hasattr(value, "item"):
        # Nanoseconds would come as a number.
        own = value.astype("datetime64[us]").item() if value.dtype.kind == "M" else value.item()
        if own is None or type(own) in (*_WORDS, date):
            return _plain(own, row)
    raise UnfitColumn(
        f"holds a {kind.__module__}.{kind.__qualname__} in row {row}; numbers, texts, truth values and times can be sent"
    )


def _moment(value: datetime) -> datetime:
    try:
        moment = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError as exc:
        raise UnfitColumn(f"holds {value.isoformat()}, which is outside of the years 1 to 9999 in UTC") from exc
    # pandas' Timestamp is one too, and stays one.
    return moment if type(moment) is datetime else datetime.combine(moment.date(), moment.time(), UTC)


def _values(column: FrameColumn) -> list[Any]:
    content = column.WhichOneof("content")
    if content is None:
        raise InvalidRequest.of(column.name, "is a column of a kind that this version does not know")
    values: list[Any] = list(getattr(column, content).values)
    if content == "times":
        values = [value.ToDatetime(tzinfo=UTC) for value in values]
    for row in column.missing:
        values[row] = None
    return values
