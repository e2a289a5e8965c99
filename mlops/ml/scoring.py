"""Scores of a fitted model on rows kept apart, and the predictions behind them, each computed once."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.metrics import get_scorer

from mlops.jobs.training import Task

_RESPONSES = frozenset({"predict", "predict_proba", "predict_log_proba", "decision_function"})
# With more classes than this, only predictions are kept: curves are drawn for 20 at most.
MAX_SCORED_CLASSES = 100


class Remembered:
    """A fitted model that answers for one table, and computes each kind of answer once.

    scikit-learn's scorers each ask for predict, predict_proba or decision_function of their own accord.
    """

    def __init__(self, model: Any, features: Any) -> None:
        self._model = model
        self._features = features
        self._answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._model, name)
        if name not in _RESPONSES:
            return attribute

        @functools.wraps(attribute)
        def answer(features: Any) -> Any:
            if features is not self._features:
                return attribute(features)
            if name not in self._answers:
                self._answers[name] = attribute(features)
            return self._answers[name]

        return answer


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a model said about rows, one entry a row.

    rows: int64 (n,), positions in the dataset. truth, prediction: (n,) labels, or float64.
    scores: float64 (n, len(classes)), probabilities or else decision values; None where the model gives none.
    """

    rows: npt.NDArray[np.int64]
    truth: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    classes: tuple[str, ...] = ()
    scores: npt.NDArray[np.float64] | None = None
    are_probabilities: bool = False

    def write(self, path: Path) -> None:
        """As Parquet: row, truth, prediction, and probability[CLASS] or score[CLASS] for each class."""
        columns: dict[str, Any] = {"row": self.rows, "truth": self.truth, "prediction": self.prediction}
        if self.scores is not None:
            word = "probability" if self.are_probabilities else "score"
            for index, label in enumerate(self.classes):
                columns[f"{word}[{label}]"] = self.scores[:, index]
        pq.write_table(pa.table({name: pa.array(_plain(values)) for name, values in columns.items()}), path)

    @classmethod
    def read(cls, path: Path) -> Predictions:
        """The inverse of `write`."""
        table = pq.read_table(path)
        named = [name for name in table.column_names[3:] if name.endswith("]")]
        scores = None
        if named:
            scores = np.column_stack([table[name].to_numpy() for name in named])
        return cls(
            rows=table["row"].to_numpy(),
            truth=table["truth"].to_numpy(),
            prediction=table["prediction"].to_numpy(),
            classes=tuple(name.partition("[")[2][:-1] for name in named),
            scores=scores,
            are_probabilities=bool(named) and named[0].startswith("probability"),
        )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """scores: by scorer name; NaN where one could not be computed, with the reason in `problems`."""

    scores: dict[str, float]
    problems: tuple[str, ...]
    predictions: Predictions


def score(
    model: Any,
    features: Any,
    target: npt.NDArray[Any],
    *,
    rows: npt.NDArray[np.int64],
    scoring: Sequence[str],
    task: Task,
) -> Scored:
    """Judges a fitted model, as cross_validate does: without sample weights, a failing scorer giving NaN.

    Raises what scikit-learn raises where the model cannot predict, or no scorer works at all.
    """
    remembered = Remembered(model, features)
    prediction = np.asarray(remembered.predict(features))
    scores: dict[str, float] = {}
    problems: list[str] = []
    first: Exception | None = None
    for name in scoring:
        try:
            scores[name] = float(get_scorer(name)(remembered, features, target))
        except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
            scores[name] = math.nan
            problems.append(f"{name} could not be computed: {str(error)[:300]}")
            first = first or error
    if first is not None and len(problems) == len(scoring):
        raise first
    classes: tuple[str, ...] = ()
    values, are_probabilities = None, False
    if task is Task.CLASSIFICATION:
        classes, values, are_probabilities = _class_scores(remembered, features)
    return Scored(
        scores=scores,
        problems=tuple(problems),
        predictions=Predictions(
            rows=rows,
            truth=target,
            prediction=prediction.reshape(len(target)),
            classes=classes,
            scores=values,
            are_probabilities=are_probabilities,
        ),
    )


def _class_scores(model: Any, features: Any) -> tuple[tuple[str, ...], npt.NDArray[np.float64] | None, bool]:
    labels = tuple(str(label) for label in getattr(model, "classes_", ()))
    if not 2 <= len(labels) <= MAX_SCORED_CLASSES:
        return (), None, False
    if hasattr(model, "predict_proba"):
        return labels, np.asarray(model.predict_proba(features), dtype=np.float64), True
    if not hasattr(model, "decision_function"):
        return (), None, False
    values = np.asarray(model.decision_function(features), dtype=np.float64)
    if values.ndim == 1:
        values = np.column_stack([-values, values])
    # Of one against one, scikit-learn may give a column a pair: no class's own.
    return (labels, values, False) if values.shape[1] == len(labels) else ((), None, False)


def _plain(values: npt.NDArray[Any]) -> Any:
    return values if values.dtype.kind in "biuf" else values.astype(object)
