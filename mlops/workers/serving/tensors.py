"""Rows of requests to what a Predictor takes, and what it gives to Outputs. Runs in the children: the host has no numpy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops.errors import InvalidRequest
from mlops.jobs.card import Engine, FeatureSpec, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.ml.prediction import Inputs, Predicted
from mlops.v1 import models_pb2
from mlops.v1 import serving_pb2 as pb

_DOUBLE, _LONG = np.dtype("<f8"), np.dtype("<i8")
_MISSING_BOOLEAN = 2
_NUMBERS: dict[PredictMethod, models_pb2.PredictMethod.ValueType] = {
    PredictMethod.PREDICT: models_pb2.PREDICT_METHOD_PREDICT,
    PredictMethod.PREDICT_PROBA: models_pb2.PREDICT_METHOD_PREDICT_PROBA,
    PredictMethod.DECISION_FUNCTION: models_pb2.PREDICT_METHOD_DECISION_FUNCTION,
}
METHODS: dict[int, PredictMethod] = {number: method for method, number in _NUMBERS.items()}
_ENGINES: dict[Engine, models_pb2.Engine.ValueType] = {
    Engine.SKLEARN: models_pb2.ENGINE_SKLEARN,
    Engine.ONNX: models_pb2.ENGINE_ONNX,
}


def read(requests: Sequence[pb.Rows], features: Sequence[FeatureSpec]) -> Inputs:
    """The rows of several requests, one behind the other.

    Raises InvalidRequest where a value is missing that was never missing in training.
    """
    if requests[0].matrix:
        matrix = _matrix(requests, features)
        missing = np.isnan(matrix)
        if missing.any():
            _check_present(features, missing.T)
        return matrix
    columns = [_column(requests, index, feature) for index, feature in enumerate(features)]
    _check_present(features, [pd.isna(column) for column in columns])
    return [_as_loaded(feature, column) for feature, column in zip(features, columns, strict=True)]


def write(predicted: Predicted, counts: Sequence[int]) -> Iterator[bytes]:
    """The serialised Outputs of each request, whose rows stand one behind the other."""
    engine, batch_rows, start = _ENGINES[predicted.engine], sum(counts), 0
    for count in counts:
        outputs = pb.Outputs(engine=engine, batch_rows=batch_rows)
        for method, values in predicted.outputs.items():
            columns = values.shape[1] if values.ndim > 1 else 0
            output = outputs.outputs.add(method=_NUMBERS[method], columns=columns)
            _put(output, method, values[start : start + count])
        start += count
        yield outputs.SerializeToString()


def _put(output: pb.Output, method: PredictMethod, values: npt.NDArray[Any]) -> None:
    kind = values.dtype.kind
    if kind == "f" or method is not PredictMethod.PREDICT:
        output.numbers = np.ascontiguousarray(values, dtype=_DOUBLE).tobytes()
    elif kind == "b":
        output.booleans = values.tobytes()
    elif kind in "iu":
        output.integers = np.ascontiguousarray(values, dtype=_LONG).tobytes()
    else:
        output.texts.values.extend(map(str, values))


def _matrix(requests: Sequence[pb.Rows], features: Sequence[FeatureSpec]) -> npt.NDArray[np.float64]:
    data = requests[0].matrix if len(requests) == 1 else b"".join(request.matrix for request in requests)
    return np.frombuffer(data, dtype=_DOUBLE).reshape(-1, len(features))


def _column(requests: Sequence[pb.Rows], index: int, feature: FeatureSpec) -> npt.NDArray[Any]:
    parts = [_values(request.features[index], request.count, feature.kind) for request in requests]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _values(values: pb.FeatureValues, count: int, kind: ColumnKind) -> npt.NDArray[Any]:
    """(count,): float64 with NaN, bool, or objects with None."""
    content = values.WhichOneof("content")
    if content == "numbers":
        return np.frombuffer(values.numbers, dtype=_DOUBLE)
    if content == "booleans":
        given = np.frombuffer(values.booleans, dtype=np.uint8)
        found: npt.NDArray[Any] = given.astype(np.bool_)
        if (given == _MISSING_BOOLEAN).any():
            found = found.astype(object)
            found[given == _MISSING_BOOLEAN] = None
        return found
    if content == "texts":
        texts = np.array(values.texts.values, dtype=object)
        texts[list(values.missing)] = None
        return texts
    is_number = kind in (ColumnKind.NUMERIC, ColumnKind.DATETIME)
    return np.full(count, np.nan) if is_number else np.full(count, None, dtype=object)


def _as_loaded(feature: FeatureSpec, column: npt.NDArray[Any]) -> Any:
    """The column as ml.frame loads it."""
    if feature.kind is ColumnKind.CATEGORICAL:
        return pd.Categorical(column)
    if feature.kind is ColumnKind.TEXT:
        column[pd.isna(column)] = ""
    return column


def _check_present(features: Sequence[FeatureSpec], missing: Iterable[npt.NDArray[np.bool_]]) -> None:
    for feature, found in zip(features, missing, strict=False):
        # A missing text is an empty one.
        if feature.required and feature.kind is not ColumnKind.TEXT and found.any():
            row = int(found.argmax())
            raise InvalidRequest.of(
                f"rows[{row}]",
                f"column {feature.name!r} has no value: it had no missing ones when the model was trained",
            )
