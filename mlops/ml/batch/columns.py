"""The columns of a result: the row's number, what is carried over, and what the model said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mlops import errors
from mlops.jobs.card import LabelType, ModelCard, PredictMethod
from mlops.jobs.inference import BatchInferencePlan
from mlops.ml.prediction import Outputs

ROW = "row"
PREDICTION = "prediction"
SCORE = "score"
EVERYTHING = "*"

_TYPES = {
    LabelType.DOUBLE: pa.float64(),
    LabelType.LONG: pa.int64(),
    LabelType.BOOLEAN: pa.bool_(),
    LabelType.STRING: pa.string(),
}


def carried(plan: BatchInferencePlan, types: Mapping[str, Any]) -> tuple[str, ...]:
    """The columns of the input that stand in the output too, in the order asked for.

    types: Arrow type by column of the input. Raises DataInvalid for one that the input does not have.
    """
    names = tuple(types) if EVERYTHING in plan.carry else tuple(dict.fromkeys(plan.carry))
    missing = [name for name in names if name not in types]
    if missing:
        raise errors.DataInvalid(
            f"the input has no column {missing[0]!r}, which is to be carried",
            hint=f"It has {', '.join(list(types)[:20])}{' …' if len(types) > 20 else ''}.",
        )
    return names


def output_names(plan: BatchInferencePlan, card: ModelCard, classes: Sequence[str]) -> dict[PredictMethod, list[str]]:
    """The output's columns by method, in their order: prediction, probability[CLASS]…, score[CLASS]… or score.

    Decision values that are no class's own (one against one) are numbered: score[0]…
    """
    found: dict[PredictMethod, list[str]] = {}
    for method in PredictMethod:
        if method not in plan.outputs:
            continue
        if method is PredictMethod.PREDICT:
            found[method] = [PREDICTION]
        elif method is PredictMethod.PREDICT_PROBA:
            found[method] = [f"probability[{label}]" for label in classes]
        elif card.decision_columns == 1:
            found[method] = [SCORE]
        else:
            own = len(classes) == card.decision_columns
            labels = classes if own else [str(index) for index in range(card.decision_columns)]
            found[method] = [f"{SCORE}[{label}]" for label in labels]
    return found


def check_names(carried_names: Sequence[str], outputs: Mapping[PredictMethod, Sequence[str]]) -> None:
    """Raises DataInvalid where a carried column is called like one of the output's own."""
    own = {ROW, *(name for names in outputs.values() for name in names)}
    clash = [name for name in carried_names if name in own]
    if clash:
        raise errors.DataInvalid(
            f"the column {clash[0]!r} cannot be carried: the output has one of that name",
            hint="Rename it in the input, or leave it out of what is carried.",
        )


def prediction_type(card: ModelCard) -> Any:
    """The Arrow type of the prediction."""
    return _TYPES[card.label_type]


def arrays_of(outputs: Outputs, names: Mapping[PredictMethod, Sequence[str]], card: ModelCard) -> dict[str, Any]:
    """What the model said as Arrow arrays by the output's columns."""
    found: dict[str, Any] = {}
    for method, columns in names.items():
        values = outputs[method]
        if method is PredictMethod.PREDICT:
            found[PREDICTION] = _labels(values, card)
        else:
            matrix = values.reshape(len(values), -1)
            # Columns of a matrix that lies by rows: each is copied once.
            found |= {name: pa.array(np.ascontiguousarray(matrix[:, i])) for i, name in enumerate(columns)}
    return found


def _labels(values: npt.NDArray[Any], card: ModelCard) -> Any:
    if card.label_type is not LabelType.STRING or not card.classes:
        return pa.array(values, prediction_type(card))
    # scikit-learn's classes are sorted, and looking them up is three times as fast as converting each text.
    classes = np.asarray(card.classes, dtype=np.str_)
    return pa.array(card.classes, pa.string()).take(pa.array(np.searchsorted(classes, values)))
