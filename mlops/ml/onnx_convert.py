"""Converts fitted scikit-learn models to ONNX, with skl2onnx."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from mlops.ml.onnx_engine import INPUT
from mlops.ml.parts import parts_of


def converted(model: Any, features: int, *, is_double: bool) -> bytes:
    """The model as ONNX: one matrix (n, features) goes in, labels and (n, classes) probabilities come out.

    is_double: computes in float64, else in float32. Raises whatever skl2onnx raises at a model that it cannot convert.
    """
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    kind = DoubleTensorType if is_double else FloatTensorType
    given = [(INPUT, kind([None, features]))]
    # Some classifiers give a list of dictionaries otherwise, and others do not know the option.
    wanted = {id(model): {"zipmap": False}} if hasattr(model, "classes_") else None
    with _whole_numbers(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = to_onnx(model, initial_types=given, options=wanted)
        except NameError:
            made = to_onnx(model, initial_types=given)
    written: bytes = made.SerializeToString()
    return written


def has_trees(model: Any) -> bool:
    """Whether any part of the model is made of decision trees, whose thresholds scikit-learn compares as float32."""
    return any(_is_tree(part) for part in parts_of(model))


def _is_tree(part: BaseEstimator) -> bool:
    return hasattr(part, "tree_") or hasattr(part, "_predictors")


@contextmanager
def _whole_numbers() -> Iterator[None]:
    """Makes booleans in lists of whole numbers what they ought to be while skl2onnx (1.20) converts.

    It writes the direction of missing values in HistGradientBoosting's trees as booleans, which protobuf from
    version 7 on refuses.
    """
    from skl2onnx.common import _container

    make_node = _container.make_node

    def make(*arguments: Any, **attributes: Any) -> Any:
        return make_node(*arguments, **{name: _without_booleans(value) for name, value in attributes.items()})

    _container.make_node = make
    try:
        yield
    finally:
        _container.make_node = make_node


def _without_booleans(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(one, bool | np.bool_) for one in value):
        return [int(one) for one in value]
    return value
