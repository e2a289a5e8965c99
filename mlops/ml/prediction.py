"""Predicts with a stored model: the one place where that is done, for batches and online alike.

Inputs are the model's features in the order of its card. Either one matrix, float64 (n, features), which a model
of numbers, booleans and times takes; or a column each, as ml.frame loads them:

    numeric      float64 with NaN, or int64          categorical  pandas.Categorical of str
    boolean      bool                                text         str objects, "" for missing values
    datetime     float64: seconds since 1970 in UTC, NaN for missing values
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops import names
from mlops.errors import InvalidRequest
from mlops.jobs.card import Engine, LabelType, ModelCard, OnnxExport, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.ml import modelfile
from mlops.ml.namefree import forget_names
from mlops.ml.onnx_engine import OnnxEngine

logger = logging.getLogger(__name__)

Matrix = npt.NDArray[np.float64]
Inputs = Matrix | Sequence[Any]
Outputs = dict[PredictMethod, npt.NDArray[Any]]

_AS_NUMBERS = frozenset({ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.DATETIME})
_DTYPES: dict[LabelType, type[Any]] = {
    LabelType.DOUBLE: np.float64,
    LabelType.LONG: np.int64,
    LabelType.BOOLEAN: np.bool_,
    LabelType.STRING: np.str_,
}
# Loading forests of many trees was seen to take 2.9 times the file's size; other models take less.
_RESIDENT_FACTOR = 3
_ONNX_FACTOR = 4
_LEAST_RESIDENT_BYTES = 1024**2


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What a model said. One row a row of the input.

    predict: (n,) of the label type's dtype; predict_proba: float64 (n, classes);
    decision_function: float64 (n,), or (n, card.decision_columns).
    """

    outputs: Outputs
    engine: Engine


class Predictor:
    """A model that is loaded. Threads may share it.

    takes_matrix: whether a matrix is all it needs; columns work with every model.
    resident_bytes: about what it holds in memory.
    """

    def __init__(
        self, model: Any, card: ModelCard, *, export: OnnxExport | None = None, onnx: OnnxEngine | None = None
    ) -> None:
        self.card = card
        self.export = export if onnx is not None else None
        self.classes = card.classes or tuple(str(label) for label in getattr(model, "classes_", ()))
        self.resident_bytes = _LEAST_RESIDENT_BYTES + _RESIDENT_FACTOR * card.size_bytes
        if onnx is not None and export is not None:
            self.resident_bytes += _ONNX_FACTOR * export.size_bytes
        self._model = model
        self._onnx = onnx
        self._names = pd.Index([feature.name for feature in card.features], dtype=object)
        self.takes_matrix = all(feature.kind in _AS_NUMBERS for feature in card.features)
        # A model that goes by names is given a frame made of the matrix.
        self._needs_frame = not (self.takes_matrix and forget_names(model))
        booleans = [feature.kind is ColumnKind.BOOLEAN for feature in card.features]
        self._booleans = booleans if any(booleans) else None
        self._dtype = _DTYPES[card.label_type]

    @classmethod
    def load(cls, directory: Path) -> Self:
        """The model in a directory: model.skops, card.json and, where it was exported, model.onnx with onnx.json.

        Raises UnsafeModel as modelfile.load does, and FileNotFoundError.
        """
        card = ModelCard.model_validate_json((directory / names.CARD_FILE).read_bytes())
        path = directory / names.STEP_MODEL
        card = card.model_copy(update={"size_bytes": path.stat().st_size})
        model = modelfile.load(path)
        export = read_export(directory)
        onnx = None
        if export is not None and export.methods:
            try:
                onnx = OnnxEngine(directory / names.ONNX_FILE)
            except Exception:
                # A runtime that is older than the one that exported it, say: scikit-learn does all the same.
                logger.warning("the ONNX file in %s cannot be used", directory, exc_info=True)
        return cls(model, card, export=export, onnx=onnx)

    def predict(self, inputs: Inputs, methods: Sequence[PredictMethod], *, engine: Engine | None = None) -> Predicted:
        """What the model says, by method.

        engine: None for the one that was faster at this many rows. Raises InvalidRequest for a method that the
        model does not have, or an engine that has it not; what scikit-learn raises passes.
        """
        for method in methods:
            if method not in self.card.methods:
                raise InvalidRequest(f"this model has no {method.value}: ask for {_listed(self.card.methods)}")
        chosen = self.engine_for(rows_of(inputs), methods) if engine is None else engine
        if chosen is Engine.ONNX:
            return Predicted(outputs=self._by_onnx(inputs, tuple(methods)), engine=Engine.ONNX)
        given = self._given(inputs)
        outputs = {method: np.asarray(getattr(self._model, method.value)(given)) for method in methods}
        if PredictMethod.PREDICT in outputs:
            outputs[PredictMethod.PREDICT] = self._labels(outputs[PredictMethod.PREDICT])
        return Predicted(outputs=outputs, engine=Engine.SKLEARN)

    def engine_for(self, rows: int, methods: Sequence[PredictMethod]) -> Engine:
        """The faster engine for so many rows."""
        if self.export is None or not methods:
            return Engine.SKLEARN
        faster = all(self.export.faster(rows, method) is Engine.ONNX for method in methods)
        return Engine.ONNX if faster else Engine.SKLEARN

    def _by_onnx(self, inputs: Inputs, methods: tuple[PredictMethod, ...]) -> Outputs:
        if self._onnx is None or self.export is None or not set(methods) <= set(self.export.methods):
            raise InvalidRequest("this model was not exported to ONNX for what is asked")
        matrix = inputs if isinstance(inputs, np.ndarray) else as_matrix(inputs)
        outputs = self._onnx.predict(matrix, methods)
        for method, values in outputs.items():
            outputs[method] = (
                self._labels(values) if method is PredictMethod.PREDICT else values.astype(np.float64, copy=False)
            )
        return outputs

    def _given(self, inputs: Inputs) -> Any:
        if not self._needs_frame:
            return inputs if isinstance(inputs, np.ndarray) else as_matrix(inputs)
        if isinstance(inputs, np.ndarray):
            if not self._booleans:
                return pd.DataFrame(inputs, columns=self._names, copy=False)
            inputs = [
                column.astype(np.bool_) if is_boolean else column
                for column, is_boolean in zip(inputs.T, self._booleans, strict=True)
            ]
        frame = pd.DataFrame(dict(enumerate(inputs)), copy=False)
        frame.columns = self._names
        return frame

    def _labels(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values.reshape(len(values)).astype(self._dtype, copy=False)


def read_export(directory: Path) -> OnnxExport | None:
    """What came of exporting the model in a directory; None where that was not tried."""
    try:
        return OnnxExport.model_validate_json((directory / names.ONNX_NOTES_FILE).read_bytes())
    except FileNotFoundError:
        return None


def as_matrix(columns: Sequence[Any]) -> Matrix:
    """Columns of numbers, booleans and times as one matrix, float64 (n, columns), column by column in memory."""
    matrix = np.empty((len(columns), len(columns[0])), dtype=np.float64)
    for index, column in enumerate(columns):
        matrix[index] = column
    return matrix.T


def take(inputs: Inputs, rows: Any) -> Inputs:
    """Some rows of the inputs, by positions or as a slice."""
    return inputs[rows] if isinstance(inputs, np.ndarray) else [column[rows] for column in inputs]


def rows_of(inputs: Inputs) -> int:
    """How many rows the inputs have."""
    return len(inputs) if isinstance(inputs, np.ndarray) else len(inputs[0])


def _listed(methods: Sequence[PredictMethod]) -> str:
    return ", ".join(method.value for method in methods)
