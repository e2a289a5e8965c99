"""Makes a fitted model ready for a plain matrix, where nothing inside it needs the columns' names.

A model that was fitted on a DataFrame remembers the names, compares them at every call and warns about a matrix.
Building a DataFrame and looking at its names takes longer than most models need for a row, so that names are
forgotten, and column transformers go by positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import FunctionTransformer

from mlops.ml.parts import parts_of

_NAMES = "feature_names_in_"
_OUTPUT = "_sklearn_output_config"


def forget_names(model: Any) -> bool:
    """Changes the model so that it predicts a matrix as it did a DataFrame of numbers, without a word of warning.

    False, and nothing is changed, where a part of it hands DataFrames to the next one, or a function of NumPy sees
    each column's own type (the sinh of booleans is a float16, the reciprocal of 2 is 0).
    """
    parts = list(parts_of(model))
    if any(_needs_frame(part) for part in parts):
        return False
    for part in parts:
        if isinstance(part, ColumnTransformer) and hasattr(part, _NAMES):
            names = [str(name) for name in part.feature_names_in_]
            part.transformers_ = [
                (name, inner, _positions(columns, names)) for name, inner, columns in part.transformers_
            ]
    for part in parts:
        vars(part).pop(_NAMES, None)
    return True


def _needs_frame(part: BaseEstimator) -> bool:
    if isinstance(part, FunctionTransformer) and part.func is not None:
        return True
    return vars(part).get(_OUTPUT, {}).get("transform") in ("pandas", "polars")


def _positions(columns: Any, names: Sequence[str]) -> Any:
    """A choice of columns by position. One name alone chooses a column, and a list of one a table."""
    if isinstance(columns, str):
        return names.index(columns)
    if isinstance(columns, slice):
        return slice(_edge(columns.start, names, 0), _edge(columns.stop, names, 1), columns.step)
    if isinstance(columns, list | tuple | np.ndarray):
        return [names.index(name) if isinstance(name, str) else name for name in columns]
    return columns


def _edge(edge: Any, names: Sequence[str], last: int) -> Any:
    # A slice of names holds its end.
    return names.index(edge) + last if isinstance(edge, str) else edge
