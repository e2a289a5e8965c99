"""Turns a column of an input into what the model was trained on, and finds the values that cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops.jobs.card import FeatureSpec
from mlops.jobs.dataset import ColumnKind
from mlops.ml.datasets.kinds import plain_of
from mlops.ml.failures import bounded

Mask = npt.NDArray[np.bool_]

_MICROS_A_SECOND = 1e6
_MICROS = pa.timestamp("us", "UTC")
_WORDS = ("true", "false")
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True, kw_only=True)
class Coerced:
    """One column as the model takes it (see ml.prediction).

    missing: bool (n,), where there is no value; None where there is one everywhere, or where NaN says it.
    unusable: position to what is wrong with the value there.
    """

    values: Any
    missing: Mask | None = None
    unusable: dict[int, str]


def coerced(feature: FeatureSpec, column: Any) -> Coerced:
    """The column, a pyarrow Array, as the feature's kind wants it, by the rules of jobs.inputs.

    Numbers and times are float64 with NaN for what is missing, or int64. The column is of a type that
    jobs.inputs accepts for the feature, or of texts that stand for its values, as a CSV file has them.
    """
    if feature.kind is ColumnKind.NUMERIC and _is_ready(column):
        return Coerced(values=column.to_numpy(zero_copy_only=True), unusable={})
    match feature.kind:
        case ColumnKind.NUMERIC:
            return _numbers(plain_of(feature.name, column))
        case ColumnKind.DATETIME:
            return _seconds(plain_of(feature.name, column))
        case ColumnKind.BOOLEAN:
            return _booleans(plain_of(feature.name, column))
        case ColumnKind.CATEGORICAL:
            return _categories(feature.name, column)
        case ColumnKind.TEXT:
            return _texts(plain_of(feature.name, column))


def absent(feature: FeatureSpec, rows: int) -> Any:
    """A column of missing values, for a feature that the input does not have."""
    if feature.kind is ColumnKind.CATEGORICAL:
        return pd.Categorical.from_codes(np.full(rows, -1), categories=pd.Index([], dtype=object))
    if feature.kind is ColumnKind.TEXT:
        return np.full(rows, "", dtype=object)
    return np.full(rows, np.nan)


def _is_ready(column: Any) -> bool:
    return column.null_count == 0 and column.type in (pa.float64(), pa.int64())


def _numbers(plain: Any) -> Coerced:
    unusable: dict[int, str] = {}
    if pa.types.is_large_string(plain.type):
        plain, unusable = _parsed(plain, pa.float64(), "number")
    if pa.types.is_integer(plain.type) and plain.null_count == 0:
        try:
            return Coerced(values=plain.cast(pa.int64()).to_numpy(zero_copy_only=False), unusable=unusable)
        except pa.ArrowInvalid:
            # Beyond 64 bits with a sign: a number all the same.
            pass
    numbers = plain.cast(pa.float64(), safe=False)
    return Coerced(values=pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False), unusable=unusable)


def _seconds(plain: Any) -> Coerced:
    if pa.types.is_large_string(plain.type):
        plain, unusable = _parsed(plain, _MICROS, "time in ISO 8601")
    elif pa.types.is_timestamp(plain.type):
        unusable = {}
    else:
        return _numbers(plain)
    micros = plain.cast(pa.int64()).cast(pa.float64(), safe=False)
    seconds = pc.divide(micros, _MICROS_A_SECOND)
    return Coerced(values=pc.fill_null(seconds, np.nan).to_numpy(zero_copy_only=False), unusable=unusable)


def _booleans(plain: Any) -> Coerced:
    unusable: dict[int, str] = {}
    if pa.types.is_large_string(plain.type):
        words = pc.utf8_lower(plain)
        known = pc.is_in(words, value_set=pa.array(_WORDS, pa.large_string()))
        unusable = _odd(plain, known, "boolean")
        plain = pc.equal(words, pa.scalar("true", pa.large_string()))
    missing = _nulls(plain)
    return Coerced(values=pc.fill_null(plain, False).to_numpy(zero_copy_only=False), missing=missing, unusable=unusable)


def _categories(name: str, column: Any) -> Coerced:
    if not pa.types.is_dictionary(column.type) or not pa.types.is_string(column.type.value_type):
        column = plain_of(name, column).cast(pa.large_string()).dictionary_encode()
    codes = pc.fill_null(column.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    labels = pd.Index(column.dictionary.to_pylist(), dtype=object)
    if labels.hasnans or not labels.is_unique:
        # A stranger's dictionary may hold a value twice, or a missing one.
        return _categories(name, column.cast(pa.large_string()))
    values = pd.Categorical.from_codes(codes, categories=labels)
    return Coerced(values=values, missing=_mask(codes < 0), unusable={})


def _texts(plain: Any) -> Coerced:
    values = pc.fill_null(plain, "").to_numpy(zero_copy_only=False)
    return Coerced(values=values, missing=_nulls(plain), unusable={})


def _parsed(texts: Any, kind: Any, what: str) -> tuple[Any, dict[int, str]]:
    """Texts as what they stand for; null where one does not, which is named."""
    unusable: dict[int, str] = {}

    def parse(start: int, stop: int) -> list[Any]:
        try:
            return [texts.slice(start, stop - start).cast(kind)]
        except pa.ArrowInvalid:
            if stop - start == 1:
                unusable[start] = _not_a(texts[start].as_py(), what)
                return [pa.nulls(1, kind)]
            half = (start + stop) // 2
            return parse(start, half) + parse(half, stop)

    return pa.concat_arrays(parse(0, len(texts))), unusable


def _odd(texts: Any, known: Any, what: str) -> dict[int, str]:
    """Values that are there, but are not known."""
    odd = np.flatnonzero(pc.and_(pc.invert(known), pc.is_valid(texts)).to_numpy(zero_copy_only=False))
    return {int(i): _not_a(texts[int(i)].as_py(), what) for i in odd}


def _not_a(text: str, what: str) -> str:
    return f"holds {bounded(repr(text), _SHOWN_CHARACTERS)}, which is no {what}"


def _nulls(column: Any) -> Mask | None:
    return None if column.null_count == 0 else pc.is_null(column).to_numpy(zero_copy_only=False)


def _mask(found: Mask) -> Mask | None:
    return found if found.any() else None
