"""What a model takes, worked out once from its card, and rows as they travel to a serving host."""

from __future__ import annotations

import math
import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlops.errors import InvalidRequest
from mlops.jobs.card import FeatureSpec, ModelCard
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.inputs import Fit, fit_columns
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb

# More rows are a job for batch inference.
MAX_ROWS = 10_000
AS_NUMBERS = frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.DATETIME})
DOUBLE_BYTES = 8
MISSING_BOOLEAN = 2
# Tables whose fit is remembered: clients send the same columns again and again.
_FITS = 64


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Rows that fit a model. `data`: serialised Rows. `warnings`: columns that were ignored, or filled."""

    data: bytes
    count: int
    is_matrix: bool
    warnings: tuple[str, ...] = ()


class Values(NamedTuple):
    """One column as it came: numbers (of times, seconds since 1970 in UTC; of truth values, 0 and 1) or texts.

    missing: positions without a value, whatever stands there.
    """

    kind: ColumnKind
    values: Sequence[Any]
    missing: Sequence[int] = ()


class ModelInputs:
    """A model's features, and the way of rows to them."""

    def __init__(self, card: ModelCard) -> None:
        self.features = card.features
        self.names = tuple(feature.name for feature in card.features)
        # Whether the model takes one matrix; any other takes a column a feature.
        self.takes_matrix = all(feature.kind in AS_NUMBERS for feature in card.features)
        self.all_numeric = all(feature.kind is ColumnKind.NUMERIC for feature in card.features)
        self._row = struct.Struct(f"<{len(card.features)}d")
        self._fits: dict[tuple[tuple[str, ColumnKind | None], ...], Fit] = {}

    def encode(self, columns: Mapping[str, Values], count: int, path: Callable[[str], str]) -> Encoded:
        """Rows of columns that have `count` values each.

        path: where a column stands in the request. Raises InvalidRequest for columns that do not fit the model.
        """
        fit = self._fit(columns, count, path)
        warnings: tuple[str, ...] = ()
        if fit.ignored or fit.filled:
            warnings = fit.warnings()
        if self.takes_matrix:
            data = pb.Rows(count=count, matrix=self._matrix(columns, count))
        else:
            features = [_feature(feature, columns.get(feature.name)) for feature in self.features]
            data = pb.Rows(count=count, features=features)
        return Encoded(data=data.SerializeToString(), count=count, is_matrix=self.takes_matrix, warnings=warnings)

    def encode_matrix(self, matrix: bytes, count: int) -> Encoded:
        """Rows of a model of numbers that are a matrix already: float64, little-endian, row by row."""
        data = pb.Rows(count=count, matrix=matrix).SerializeToString()
        return Encoded(data=data, count=count, is_matrix=True)

    def _fit(self, columns: Mapping[str, Values], count: int, path: Callable[[str], str]) -> Fit:
        given = {
            name: None if values.missing and len(values.missing) >= count else values.kind
            for name, values in columns.items()
        }
        key = tuple(given.items())
        found = self._fits.get(key)
        if found is None:
            found = fit_columns(self.features, given)
            if len(self._fits) < _FITS:
                self._fits[key] = found
        if found.problems:
            violations = {path(name): f"column {name!r} {problem}" for name, problem in found.problems.items()}
            raise InvalidRequest(f"the rows do not fit the model: {found.summary()}", violations=violations)
        return found

    def _matrix(self, columns: Mapping[str, Values], count: int) -> bytes:
        if count == 1:
            return self._row.pack(*[_first(columns.get(name)) for name in self.names])
        width = len(self.names)
        matrix = array("d", bytes(DOUBLE_BYTES * count * width))
        for index, name in enumerate(self.names):
            values = columns.get(name)
            matrix[index::width] = _numbers(values) if values is not None else array("d", [math.nan]) * count
        return little_endian(matrix)


def little_endian(values: array[float]) -> bytes:
    """An array's bytes as they travel."""
    if sys.byteorder == "big":
        values.byteswap()
    return values.tobytes()


def check_count(count: int, path: str) -> None:
    """Raises InvalidRequest for no rows, and for too many."""
    if not 1 <= count <= MAX_ROWS:
        problem = f"has {count} rows; a prediction takes 1 to {MAX_ROWS}"
        raise InvalidRequest.of(path, problem + (", a batch inference takes more" if count else ""))


def _numbers(values: Values) -> array[float]:
    """The numbers, NaN for what is missing."""
    numbers = array("d", values.values)
    for position in values.missing:
        numbers[position] = math.nan
    return numbers


def _first(values: Values | None) -> float:
    return math.nan if values is None or values.missing else values.values[0]


def _feature(feature: FeatureSpec, values: Values | None) -> pb.FeatureValues:
    if values is None:
        return pb.FeatureValues()
    if values.kind is ColumnKind.TEXT:
        return pb.FeatureValues(texts=models_pb2.Texts(values=values.values), missing=values.missing)
    if values.kind is ColumnKind.BOOLEAN and feature.kind is ColumnKind.CATEGORICAL:
        texts = ["true" if value else "false" for value in values.values]
        return pb.FeatureValues(texts=models_pb2.Texts(values=texts), missing=values.missing)
    if feature.kind is ColumnKind.BOOLEAN:
        booleans = bytearray(1 if value else 0 for value in values.values)
        for position in values.missing:
            booleans[position] = MISSING_BOOLEAN
        return pb.FeatureValues(booleans=bytes(booleans))
    return pb.FeatureValues(numbers=little_endian(_numbers(values)))
