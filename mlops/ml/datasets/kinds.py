"""What a column means to training, and the one form in which each kind is stored.

    numeric      int64 without missing values, else float64 with NaN for them
    boolean      bool; with missing values it becomes categorical ("true", "false")
    categorical  dictionary<int32, string>, the categories sorted; missing values are nulls
    text         large_string; missing values are nulls
    datetime     timestamp[us, UTC]; missing values are nulls

Texts are categorical where they are at most 256 characters long and have few distinct values: at most 20, or
at most a twentieth of the values and 1000. Other texts are text.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops import errors
from mlops.jobs.dataset import ColumnKind
from mlops.ml.datasets.refusal import brief
from mlops.ml.datasets.source import TextMeaning, refuse_type

FEW_VALUES = 20
_MOST_CATEGORIES = 1000
_VALUES_A_CATEGORY = 20
_LONGEST_CATEGORY = 256
_SAMPLE_ROWS = 50_000
_FIRST_ROWS = 1000
# What is missing in a CSV file whose read options do not say.
_MISSING = (
    *("", "NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NULL", "null", "None"),
    *("NaN", "nan", "-NaN", "-nan", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"),
)
_TRUE = frozenset({"true", "t", "yes", "y", "1"})
_FALSE = frozenset({"false", "f", "no", "n", "0"})
_DECIMAL_COMMA = r"^[+-]?\d*,?\d+([eE][+-]?\d+)?$"
_MICROS = pa.timestamp("us", "UTC")
# Years 1 to 9999, which Python's datetime can say.
_EARLIEST_MICROS = -62_135_596_800_000_000
_LATEST_MICROS = 253_402_300_799_999_999


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A column in its stored form: one contiguous pyarrow Array."""

    kind: ColumnKind
    array: Any


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the columns of a source are to be understood."""

    text_meaning: TextMeaning
    decimal_comma: bool = False
    null_values: tuple[str, ...] = ()


def stored(name: str, column: Any, reading: Reading, *, wanted: ColumnKind | None = None) -> Stored:
    """The column in its stored form, of the kind that is wanted or else of the one that it shows.

    column: a pyarrow ChunkedArray. Raises DataInvalid where its type or its values do not allow that.
    """
    try:
        plain = plain_of(name, column)
        if pa.types.is_large_string(plain.type):
            plain = _without_missing(plain, reading)
            if reading.text_meaning is not TextMeaning.NOTHING and wanted in (None, ColumnKind.DATETIME):
                plain = _understood(plain, reading)
        is_category = pa.types.is_dictionary(column.type)
        kind = wanted or (ColumnKind.CATEGORICAL if is_category else _kind(plain))
        array = _CONVERTERS[kind](name, plain, reading)
    except MemoryError:
        raise
    except (pa.ArrowException, OverflowError) as exc:
        raise errors.DataInvalid(f"Column {name!r} cannot be read: {brief(exc)}") from exc
    return Stored(kind=kind, array=array)


def kind_of_type(found: Any) -> ColumnKind | None:
    """What a column of an Arrow type means, as far as its type tells: text may turn out to be categories.

    None for a type that no estimator takes, and for one without any value.
    """
    if pa.types.is_dictionary(found):
        return ColumnKind.CATEGORICAL
    if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return ColumnKind.TEXT
    if pa.types.is_boolean(found):
        return ColumnKind.BOOLEAN
    if pa.types.is_timestamp(found) or pa.types.is_date(found):
        return ColumnKind.DATETIME
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_duration, pa.types.is_time)
    return ColumnKind.NUMERIC if any(is_one(found) for is_one in numbers) else None


def plain_of(name: str, column: Any) -> Any:
    """The column (chunked or not) as numbers, booleans, times in UTC, or large strings.

    Raises DataInvalid for a type that no estimator takes.
    """
    found = column.type
    if pa.types.is_dictionary(found):
        # The numbers in a dictionary are labels: they stay categories.
        values = column.cast(found.value_type)
        return values.cast(pa.large_string())
    if pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_string_view(found):
        return column.cast(pa.large_string())
    if pa.types.is_null(found):
        return column.cast(pa.float64())
    if pa.types.is_boolean(found) or pa.types.is_integer(found) or pa.types.is_floating(found):
        return column
    if pa.types.is_decimal(found):
        return column.cast(pa.float64())
    if pa.types.is_timestamp(found) or pa.types.is_date(found):
        return _utc(column)
    if pa.types.is_duration(found):
        return pc.divide(
            column.cast(pa.duration("us"), safe=False).cast(pa.int64()).cast(pa.float64(), safe=False), 1e6
        )
    if pa.types.is_time(found):
        micros = column.cast(pa.time64("us"), safe=False).cast(pa.int64())
        return pc.divide(micros.cast(pa.float64(), safe=False), 1e6)
    refuse_type(name, found)
    raise AssertionError(found)


def _utc(column: Any) -> Any:
    """Times in UTC; those without a zone are taken to be in UTC."""
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        return column.cast(_MICROS, safe=False)
    micros = column.cast(pa.timestamp("us"), safe=not pa.types.is_timestamp(column.type) or column.type.unit != "ns")
    return pc.assume_timezone(micros, "UTC")


def _without_missing(texts: Any, reading: Reading) -> Any:
    """Texts that mean "missing" become nulls. In CSV, spaces around a value are no part of it."""
    missing = reading.null_values
    if reading.text_meaning is TextMeaning.ANYTHING:
        texts = pc.utf8_trim_whitespace(texts)
        missing = ("", *missing) if missing else _MISSING
    if not missing:
        return texts
    found = pc.is_in(texts, value_set=pa.array(missing, pa.large_string()))
    return pc.if_else(found, pa.scalar(None, pa.large_string()), texts) if pc.any(found).as_py() else texts


def _understood(texts: Any, reading: Reading) -> Any:
    """What all the texts stand for, if it is one thing: whole numbers, numbers, booleans, times."""
    if texts.null_count == len(texts):
        return texts.cast(pa.float64()) if reading.text_meaning is TextMeaning.ANYTHING else texts
    if reading.text_meaning is TextMeaning.ANYTHING:
        for found in (_cast(texts, pa.int64()), _numbers_of(texts, reading), _booleans_of(texts)):
            if found is not None:
                return found
    times = _times_of(texts)
    return texts if times is None else times


def _numbers_of(texts: Any, reading: Reading) -> Any | None:
    numbers = _cast(texts, pa.float64())
    if numbers is None:
        # pyarrow takes -1, but not +1.
        numbers = _cast(pc.replace_substring_regex(texts, pattern=r"^\+", replacement=""), pa.float64())
    if numbers is None and reading.decimal_comma and pc.all(pc.match_substring_regex(texts, _DECIMAL_COMMA)).as_py():
        numbers = _cast(pc.replace_substring(texts, pattern=",", replacement=".", max_replacements=1), pa.float64())
    return numbers


def _booleans_of(texts: Any) -> Any | None:
    lower = pc.ascii_lower(texts)
    words = pa.array(["true", "false"], pa.large_string())
    if not pc.all(pc.is_in(lower.drop_null(), value_set=words)).as_py():
        return None
    return pc.equal(lower, pa.scalar("true", pa.large_string()))


def _times_of(texts: Any) -> Any | None:
    for kind in (pa.timestamp("us"), pa.timestamp("ns"), _MICROS, pa.timestamp("ns", "UTC")):
        times = _cast(texts, kind)
        if times is not None:
            return _utc(times)
    return None


def _cast(texts: Any, kind: Any) -> Any | None:
    """The cast, or None where a value does not allow it."""
    try:
        # A cast that fails does so slowly, value by value: see first whether it has a chance.
        texts.slice(0, _FIRST_ROWS).cast(kind)
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return None


def _kind(plain: Any) -> ColumnKind:
    if pa.types.is_boolean(plain.type):
        return ColumnKind.BOOLEAN if plain.null_count == 0 else ColumnKind.CATEGORICAL
    if pa.types.is_timestamp(plain.type):
        return ColumnKind.DATETIME
    if not pa.types.is_large_string(plain.type):
        return ColumnKind.NUMERIC
    values = len(plain) - plain.null_count
    most = max(FEW_VALUES, min(_MOST_CATEGORIES, values // _VALUES_A_CATEGORY))
    # Text is found out by its beginning: counting all of its values would hold each of them.
    if pc.count_distinct(plain.slice(0, _SAMPLE_ROWS)).as_py() > most:
        return ColumnKind.TEXT
    if (pc.max(pc.utf8_length(plain)).as_py() or 0) > _LONGEST_CATEGORY:
        return ColumnKind.TEXT
    return ColumnKind.CATEGORICAL if pc.count_distinct(plain).as_py() <= most else ColumnKind.TEXT


def _numeric(name: str, plain: Any, reading: Reading) -> Any:
    if pa.types.is_timestamp(plain.type):
        raise _refused(name, ColumnKind.NUMERIC, "holds times", "Ask for datetime: it becomes seconds since 1970")
    if pa.types.is_large_string(plain.type):
        numbers = _numbers_of(plain, reading)
        if numbers is None:
            raise _refused(
                name, ColumnKind.NUMERIC, f"holds {_first_odd(plain)!r}", "List it in null_values if missing"
            )
        whole = _cast(plain, pa.int64())
        plain = numbers if whole is None else whole
    elif pa.types.is_boolean(plain.type):
        plain = plain.cast(pa.int64())
    if pa.types.is_integer(plain.type) and plain.null_count == 0:
        whole = _cast(plain, pa.int64())
        if whole is not None:
            return whole.combine_chunks()
    numbers = plain.cast(pa.float64(), safe=False)
    return (pc.fill_null(numbers, math.nan) if numbers.null_count else numbers).combine_chunks()


def _boolean(name: str, plain: Any, reading: Reading) -> Any:
    del reading
    if plain.null_count:
        raise _refused(name, ColumnKind.BOOLEAN, f"has {plain.null_count} missing values", "Ask for categorical")
    if not pa.types.is_boolean(plain.type):
        words = pc.utf8_lower(plain.cast(pa.large_string()))
        truth = pc.is_in(words, value_set=pa.array(sorted(_TRUE), pa.large_string()))
        known = pc.or_(truth, pc.is_in(words, value_set=pa.array(sorted(_FALSE), pa.large_string())))
        if not pc.all(known).as_py():
            odd = plain.filter(pc.invert(known))[0].as_py()
            raise _refused(name, ColumnKind.BOOLEAN, f"holds {odd!r}", "True, false, yes, no, 1 and 0 are read")
        plain = truth
    return plain.combine_chunks()


def _categorical(name: str, plain: Any, reading: Reading) -> Any:
    del name, reading
    encoded = _texts(plain).dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = pa.concat_arrays(encoded.chunks)
    order = pc.sort_indices(encoded.dictionary)
    rank = pc.cast(pc.sort_indices(order), pa.int32())
    return pa.DictionaryArray.from_arrays(
        pc.take(rank, encoded.indices), pc.take(encoded.dictionary, order).cast(pa.string())
    )


def _text(name: str, plain: Any, reading: Reading) -> Any:
    del name, reading
    return _texts(plain).combine_chunks()


def _datetime(name: str, plain: Any, reading: Reading) -> Any:
    if pa.types.is_large_string(plain.type):
        found = _times_of(plain)
        if found is None:
            odd = next((value for value in _some(plain) if _times_of(pa.chunked_array([[value]])) is None), None)
            raise _refused(name, ColumnKind.DATETIME, f"holds {odd!r}", "Write times as ISO 8601: 2024-05-31T12:00:00Z")
        plain = found
    elif not pa.types.is_timestamp(plain.type):
        if pa.types.is_boolean(plain.type):
            raise _refused(name, ColumnKind.DATETIME, "holds booleans", "Leave its kind out")
        seconds = _numeric(name, plain, reading).cast(pa.float64(), safe=False)
        micros = pc.round(pc.multiply(seconds, 1e6))
        plain = pa.chunked_array([pc.if_else(pc.is_finite(micros), micros, None).cast(pa.int64()).cast(_MICROS)])
    array = plain.combine_chunks()
    bounds = pc.min_max(array.cast(pa.int64())).as_py()
    if bounds["min"] is not None and not _EARLIEST_MICROS <= bounds["min"] <= bounds["max"] <= _LATEST_MICROS:
        raise errors.DataInvalid(f"Column {name!r} holds a time outside the years 1 to 9999")
    return array


_CONVERTERS = {
    ColumnKind.NUMERIC: _numeric,
    ColumnKind.BOOLEAN: _boolean,
    ColumnKind.CATEGORICAL: _categorical,
    ColumnKind.TEXT: _text,
    ColumnKind.DATETIME: _datetime,
}


def _texts(plain: Any) -> Any:
    return plain if pa.types.is_large_string(plain.type) else plain.cast(pa.large_string())


def _some(texts: Any) -> list[str]:
    """Some distinct values."""
    return [value for value in pc.unique(texts.slice(0, _SAMPLE_ROWS)).to_pylist() if value is not None]


def _first_odd(texts: Any) -> str | None:
    """A text that is no number."""
    for value in _some(texts):
        try:
            float(value)
        except ValueError:
            return value
    return None


def _refused(name: str, kind: ColumnKind, problem: str, hint: str) -> errors.DataInvalid:
    return errors.DataInvalid(f"Column {name!r} is asked to be {kind.value}, but {problem}", hint=hint)
