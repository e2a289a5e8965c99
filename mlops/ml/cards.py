"""Makes the card of a model that has just been fitted: what those who predict with it have to know."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mlops.jobs.card import FeatureSpec, LabelType, ModelCard, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.training import Task, TrainingPlan
from mlops.ml.reference import references

_LABELS = {
    ColumnKind.NUMERIC: LabelType.LONG,
    ColumnKind.BOOLEAN: LabelType.BOOLEAN,
    ColumnKind.CATEGORICAL: LabelType.STRING,
    ColumnKind.TEXT: LabelType.STRING,
}


def card_of(plan: TrainingPlan, model: Any, features: pd.DataFrame, *, size_bytes: int) -> ModelCard:
    """The card of a model fitted by this plan on these features (as ml.frame loads them).

    size_bytes: of the model's file.
    """
    methods, decision_columns = _methods(plan.task, model, features)
    return ModelCard(
        task=plan.task,
        target=plan.target.name,
        features=tuple(
            FeatureSpec(name=column.name, kind=column.kind, required=column.null_count == 0) for column in plan.features
        ),
        label_type=LabelType.DOUBLE if plan.task is Task.REGRESSION else _LABELS[plan.target.kind],
        classes=tuple(str(label) for label in model.classes_) if plan.task is Task.CLASSIFICATION else (),
        methods=methods,
        decision_columns=decision_columns,
        reference=references(features, plan.features),
        size_bytes=size_bytes,
    )


def _methods(task: Task, model: Any, features: pd.DataFrame) -> tuple[tuple[PredictMethod, ...], int]:
    """What the model can be asked for, and how many columns its decision values have."""
    if task is Task.REGRESSION:
        return (PredictMethod.PREDICT,), 0
    found = [PredictMethod.PREDICT]
    if hasattr(model, "predict_proba"):
        found.append(PredictMethod.PREDICT_PROBA)
    if not hasattr(model, "decision_function"):
        return tuple(found), 0
    try:
        values = np.asarray(model.decision_function(features.iloc[:1]))
    except (ValueError, TypeError, AttributeError):
        # One that is there, but does not work: a voting of models of which one has none, say.
        return tuple(found), 0
    return (*found, PredictMethod.DECISION_FUNCTION), 1 if values.ndim == 1 else values.shape[1]
