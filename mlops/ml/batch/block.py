"""A block of rows of an input, made ready for the model, and which of its rows cannot be predicted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.jobs.card import FeatureSpec
from mlops.jobs.dataset import ColumnKind
from mlops.ml.batch.coerce import absent, coerced
from mlops.ml.prediction import Inputs

_NUMBERS = (ColumnKind.NUMERIC, ColumnKind.DATETIME)
MISSING = "has no value, and had none missing in training"


@dataclass(frozen=True, kw_only=True)
class Block:
    """inputs: what Predictor.predict takes. bad: position to the reason, of rows that cannot be predicted."""

    inputs: Inputs
    rows: int
    bad: dict[int, str]

    def good(self) -> npt.NDArray[np.intp] | None:
        """Positions of the rows that can be predicted; None for all."""
        if not self.bad:
            return None
        kept = np.ones(self.rows, dtype=np.bool_)
        kept[list(self.bad)] = False
        return np.flatnonzero(kept)


def block_of(features: Sequence[FeatureSpec], batch: Any, *, as_matrix: bool) -> Block:
    """The features, in their order, out of a record batch that may lack some of them.

    as_matrix: one float64 matrix, where all features are numbers, booleans and times.
    A row is bad where a required feature is missing, a number is infinite, or a value is not of its kind.
    """
    rows = batch.num_rows
    matrix = np.empty((len(features), rows), dtype=np.float64) if as_matrix else None
    columns: list[Any] = []
    bad: dict[int, str] = {}
    for index, feature in enumerate(features):
        position = batch.schema.get_field_index(feature.name)
        if position < 0:
            values = absent(feature, rows)
        else:
            found = coerced(feature, batch.column(position))
            values = found.values
            _note(bad, feature, found.unusable)
            if feature.required and found.missing is not None:
                _note(bad, feature, dict.fromkeys(map(int, np.flatnonzero(found.missing)), MISSING))
        if matrix is not None:
            matrix[index] = values
        else:
            columns.append(values)
    numbers = [index for index, feature in enumerate(features) if feature.kind in _NUMBERS]
    for index in _suspects(matrix, columns, numbers):
        values = columns[index] if matrix is None else matrix[index]
        _note(bad, features[index], _odd_numbers(values, required=features[index].required))
    return Block(inputs=columns if matrix is None else matrix.T, rows=rows, bad=bad)


def _suspects(matrix: npt.NDArray[np.float64] | None, columns: list[Any], numbers: list[int]) -> list[int]:
    """Columns of numbers that may hold NaN or infinity: a sum is not finite then, and costs a fifth of a test."""
    with np.errstate(all="ignore"):
        if matrix is not None and np.isfinite(matrix.sum()):
            return []
        held = [(index, columns[index] if matrix is None else matrix[index]) for index in numbers]
        return [index for index, values in held if values.dtype.kind == "f" and not np.isfinite(values.sum())]


def _odd_numbers(values: npt.NDArray[np.float64], *, required: bool) -> dict[int, str]:
    found = {int(i): "is infinite" for i in np.flatnonzero(np.isinf(values))}
    if required:
        found |= {int(i): MISSING for i in np.flatnonzero(np.isnan(values))}
    return found


def _note(bad: dict[int, str], feature: FeatureSpec, problems: dict[int, str]) -> None:
    """Keeps the first problem of each row."""
    for position, problem in problems.items():
        bad.setdefault(position, f"column {feature.name!r} {problem}")
