from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as theirs

from mlops.errors import DataInvalid
from mlops.jobs.card import LabelType, ModelCard, PredictMethod
from mlops.jobs.training import Task
from mlops.ml.batch.scores import added, check_target, metrics, scores_of

PREDICT, PROBA = PredictMethod.PREDICT, PredictMethod.PREDICT_PROBA
REGRESSION = ModelCard(task=Task.REGRESSION, target="y", features=(), label_type=LabelType.DOUBLE)


def classifier(label_type: LabelType = LabelType.STRING, classes: tuple[str, ...] = ("a", "b", "c")) -> ModelCard:
    return ModelCard(task=Task.CLASSIFICATION, target="y", features=(), label_type=label_type, classes=classes)


def scored(truth: Any, outputs: dict[PredictMethod, Any], card: ModelCard, parts: int) -> dict[str, float]:
    """The metrics of rows that come in so many parts."""
    cuts = np.linspace(0, len(truth), parts + 1).astype(int)
    found = [
        scores_of(
            truth.slice(a, b - a), {method: values[a:b] for method, values in outputs.items()}, card, card.classes
        )
        for a, b in itertools.pairwise(cuts)
    ]
    return metrics(added(found), card)


@pytest.mark.filterwarnings("ignore")
@settings(deadline=None, max_examples=60)
@given(
    pairs=st.lists(st.tuples(st.sampled_from("abcx"), st.sampled_from("abc")), min_size=1, max_size=60),
    parts=st.integers(1, 5),
)
def test_parts_of_a_classification_add_up_to_scikit_learns_metrics(pairs: list[tuple[str, str]], parts: int) -> None:
    truth, prediction = (list(side) for side in zip(*pairs, strict=True))
    found = scored(pa.array(truth), {PREDICT: np.array(prediction)}, classifier(), parts)
    expected = {
        "accuracy": theirs.accuracy_score(truth, prediction),
        "balanced_accuracy": theirs.balanced_accuracy_score(truth, prediction),
        "precision_macro": theirs.precision_score(truth, prediction, average="macro", zero_division=0),
        "recall_macro": theirs.recall_score(truth, prediction, average="macro", zero_division=0),
        "f1_macro": theirs.f1_score(truth, prediction, average="macro", zero_division=0),
    }
    assert found == pytest.approx(expected)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=2, max_size=60),
    offset=st.sampled_from([0.0, 1e6]),
    parts=st.integers(1, 5),
)
def test_parts_of_a_regression_add_up_to_scikit_learns_metrics(
    rows: list[tuple[float, float]], offset: float, parts: int
) -> None:
    truth, prediction = np.array(rows).T + offset
    found = scored(pa.array(truth), {PREDICT: prediction}, REGRESSION, parts)
    expected = {
        "mean_absolute_error": theirs.mean_absolute_error(truth, prediction),
        "mean_squared_error": theirs.mean_squared_error(truth, prediction),
        "root_mean_squared_error": theirs.root_mean_squared_error(truth, prediction),
        "max_error": theirs.max_error(truth, prediction),
    }
    r2 = found.pop("r2")
    assert found == pytest.approx(expected)
    if truth.std() > 1e-3:
        assert r2 == pytest.approx(theirs.r2_score(truth, prediction), rel=1e-5)


@pytest.mark.parametrize("spread", [0.3, 3.0, 12.0])
def test_probabilities_give_log_loss_exactly_and_the_roc_area_nearly(spread: float) -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(5000) < 0.1
    odds = rng.normal(size=5000) * spread + truth * spread - spread
    high = 1 / (1 + np.exp(-odds))
    probabilities = np.column_stack([1 - high, high])
    card = classifier(LabelType.BOOLEAN, ("False", "True"))
    found = scored(pa.array(truth), {PREDICT: high > 0.5, PROBA: probabilities}, card, 7)
    assert found["accuracy"] == pytest.approx(theirs.accuracy_score(truth, high > 0.5))
    assert found["log_loss"] == pytest.approx(theirs.log_loss(truth, probabilities))
    assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score(truth, high), abs=1e-3)


def test_certain_probabilities_are_scored_as_scikit_learn_does() -> None:
    truth, probabilities = ["a", "b", "b"], np.array([[1.0, 0.0], [1.0, 0.0], [0.25, 0.75]])
    card = classifier(classes=("a", "b"))
    found = scored(pa.array(truth), {PREDICT: np.array(["a", "a", "b"]), PROBA: probabilities}, card, 1)
    assert found["log_loss"] == pytest.approx(theirs.log_loss(truth, probabilities))
    assert found["roc_auc"] == pytest.approx(theirs.roc_auc_score([0, 1, 1], probabilities[:, 1]))


@pytest.mark.parametrize(
    ("truth", "label_type", "classes", "prediction"),
    [
        (pa.array([1, 2, 2]), LabelType.LONG, ("1", "2"), np.array([1, 2, 1])),
        (pa.array([1.0, 2.0, 2.0]), LabelType.LONG, ("1", "2"), np.array([1, 2, 1])),
        (pa.array(["true", "False", "false"]), LabelType.BOOLEAN, ("False", "True"), np.array([True, False, True])),
        (pa.array(["x", "y", "y"]).dictionary_encode(), LabelType.STRING, ("x", "y"), np.array(["x", "y", "x"])),
    ],
)
def test_labels_are_compared_as_what_they_mean(
    truth: Any, label_type: LabelType, classes: tuple[str, ...], prediction: Any
) -> None:
    found = scored(truth, {PREDICT: prediction}, classifier(label_type, classes), 1)
    assert found["accuracy"] == pytest.approx(2 / 3)


def test_rows_without_a_target_do_not_count() -> None:
    truth = pa.array(["a", None, "b", None])
    found = scores_of(truth, {PREDICT: np.array(["a", "a", "a", "a"])}, classifier(), ("a", "b", "c"))
    assert found.rows == 2
    assert metrics(found, classifier())["accuracy"] == 0.5
    numbers = scores_of(pa.array([1.0, math.nan]), {PREDICT: np.array([2.0, 5.0])}, REGRESSION, ())
    assert (numbers.rows, numbers.max_error) == (1, 1.0)
    assert "r2" not in metrics(numbers, REGRESSION)
    assert (
        metrics(scores_of(pa.array([None], pa.float64()), {PREDICT: np.array([2.0])}, REGRESSION, ()), REGRESSION) == {}
    )


def test_a_class_that_the_model_never_saw_leaves_no_log_loss() -> None:
    outputs = {PREDICT: np.array(["a", "b"]), PROBA: np.array([[0.9, 0.1], [0.2, 0.8]])}
    card = classifier(classes=("a", "b"))
    assert "log_loss" not in scored(pa.array(["a", "new"]), outputs, card, 2)
    assert "log_loss" in scored(pa.array(["a", "b"]), outputs, card, 2)


def test_a_target_of_another_kind_is_refused() -> None:
    with pytest.raises(DataInvalid, match="'y': it is numeric, and the model gives string"):
        check_target("y", pa.float64(), classifier())
    check_target("y", pa.int32(), REGRESSION)
