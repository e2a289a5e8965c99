"""What a model said, and in which form the caller gets it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mlops import errors
from mlops.client.rows import is_from
from mlops.jobs.card import Engine, PredictMethod
from mlops.jobs.value import Value
from mlops.v1 import models_pb2
from mlops.wire.frames import parse_frame

_ENGINES = {models_pb2.ENGINE_ONNX: Engine.ONNX, models_pb2.ENGINE_SKLEARN: Engine.SKLEARN}
_METHODS = {method: getattr(models_pb2, f"PREDICT_METHOD_{method.name}") for method in PredictMethod}


class Prediction(Value):
    """The answer to `client.models.predict`.

    columns: prediction, then probability[CLASS] or score[CLASS], as asked for; a list of values each.
    warnings: columns that were ignored, or filled with missing values.
    """

    model: str
    version: int
    engine: Engine
    columns: dict[str, list[Any]]
    warnings: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """The same, row by row."""
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*self.columns.values(), strict=True)]


def parse_prediction(message: models_pb2.PredictResponse) -> Prediction:
    """The value of the answer."""
    # Built as it is: the values of each row need no second look.
    return Prediction.model_construct(
        model=message.model,
        version=message.version,
        engine=_ENGINES.get(message.engine, Engine.SKLEARN),
        columns=parse_frame(message.predictions),
        warnings=tuple(message.warnings),
    )


def predict_methods(outputs: str | PredictMethod | Sequence[PredictMethod | str]) -> list[PredictMethod]:
    """What is asked for, by its names. Raises InvalidRequest for a name of none, and for nothing at all."""
    wanted = (outputs,) if isinstance(outputs, str) else tuple(outputs)
    known = ", ".join(PredictMethod)
    for name in wanted:
        if name not in tuple(PredictMethod):
            raise errors.InvalidRequest.of("outputs", f"{str(name)!r} is none of {known}")
    if not wanted:
        raise errors.InvalidRequest.of("outputs", f"name at least one of {known}")
    return list(dict.fromkeys(PredictMethod(name) for name in wanted))


def method_numbers(methods: Sequence[PredictMethod]) -> list[models_pb2.PredictMethod.ValueType]:
    """The methods as the wire numbers them."""
    return [_METHODS[method] for method in methods]


def shaped_like(rows: object, prediction: Prediction) -> Any:
    """The predictions as a DataFrame with the index of `rows`, if it has one; as a mapping of columns for a mapping.

    Without pandas they are a mapping too. Which version answered, and with what, stands in the frame's `attrs`.
    """
    if isinstance(rows, Mapping):
        return prediction.columns
    try:
        import pandas as pd
    except ImportError:
        return prediction.columns
    frame = pd.DataFrame(prediction.columns, index=rows.index if is_from("pandas", rows) else None)  # type: ignore[attr-defined]  # a DataFrame
    frame.attrs.update(
        model=prediction.model,
        version=prediction.version,
        engine=str(prediction.engine),
        warnings=list(prediction.warnings),
    )
    return frame
