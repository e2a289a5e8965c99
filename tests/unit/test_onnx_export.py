from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler
from sklearn.svm import LinearSVC

from mlops import names
from mlops.jobs.card import Engine, OnnxExport, PredictMethod
from mlops.jobs.training import Task
from mlops.ml import onnx_export
from mlops.ml.frame import load_frame
from mlops.ml.onnx_convert import converted
from mlops.ml.onnx_export import TOLERANCE, ExportCall, export
from mlops.ml.prediction import Predictor, as_matrix
from mlops.ml.progress import silent
from tests.fixtures.plans import flowers, prices, task
from tests.unit.stored_models import columns_of, mixed, store_model

PREDICT, PROBA = PredictMethod.PREDICT, PredictMethod.PREDICT_PROBA


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "MEASURE_SECONDS", 0.01)


class Exported:
    """A model that was fitted, stored and exported; `out` is where it is served from."""

    def __init__(self, model: Any, frame: pd.DataFrame, directory: Path, of: Task = Task.CLASSIFICATION) -> None:
        self.out = directory / "model"
        self.theirs, self.card, plan = store_model(model, frame, self.out, task=of)
        self.features = load_frame(self.out / "data.arrow", plan.features)
        call = ExportCall(task=task(plan), data=self.out / "data.arrow", model=self.out, out=self.out)
        self.found = export(call, silent)
        assert self.found == OnnxExport.model_validate_json((self.out / names.ONNX_NOTES_FILE).read_text())
        assert (self.out / names.ONNX_FILE).exists() == (self.found.reason == "")


def _labels(kind: str) -> pd.DataFrame:
    frame = flowers(300, classes=2)
    first = frame["y"] == "iris"
    frame["y"] = {"text": frame["y"], "integer": first * 5 - 2, "boolean": first}[kind]
    return frame


@pytest.mark.parametrize("labels", ["text", "integer", "boolean"])
@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        RandomForestClassifier(11, random_state=0),
        GradientBoostingClassifier(n_estimators=5),
        HistGradientBoostingClassifier(max_iter=5),
        make_pipeline(make_column_transformer((StandardScaler(), ["b", "a"]), remainder="passthrough"), LogisticRegression()),
    ],
    ids=["linear", "forest", "gradient boosting", "histogram boosting", "columns"],
)  # fmt: skip
def test_an_exported_classifier_says_what_scikit_learn_says(model: Any, labels: str, tmp_path: Path) -> None:
    done = Exported(model, _labels(labels), tmp_path)
    assert done.found.methods == (PREDICT, PROBA)
    assert done.found.rows_checked == 300
    assert done.found.max_difference < 1e-6 < done.found.tolerance == TOLERANCE
    predictor = Predictor.load(done.out)
    matrix = as_matrix(columns_of(done.features))
    by_onnx = predictor.predict(matrix, (PREDICT, PROBA), engine=Engine.ONNX)
    assert by_onnx.engine is Engine.ONNX
    expected = done.theirs.predict(done.features)
    np.testing.assert_array_equal(by_onnx.outputs[PREDICT], expected)
    assert by_onnx.outputs[PREDICT].dtype.kind == expected.dtype.kind
    np.testing.assert_allclose(by_onnx.outputs[PROBA], done.theirs.predict_proba(done.features), atol=1e-6)
    assert by_onnx.outputs[PROBA].dtype == np.float64
    as_columns = predictor.predict(columns_of(done.features), (PREDICT,), engine=Engine.ONNX)
    np.testing.assert_array_equal(as_columns.outputs[PREDICT], expected)


@pytest.mark.parametrize(
    "model", [LinearRegression(), RandomForestRegressor(9), HistGradientBoostingRegressor(max_iter=5)]
)
def test_an_exported_regression_says_what_scikit_learn_says(model: Any, tmp_path: Path) -> None:
    frame = prices(300)
    frame["y"] *= 1000.0
    done = Exported(model, frame, tmp_path, Task.REGRESSION)
    assert done.found.methods == (PREDICT,)
    matrix = as_matrix(columns_of(done.features))
    found = Predictor.load(done.out).predict(matrix, (PREDICT,), engine=Engine.ONNX).outputs[PREDICT]
    np.testing.assert_allclose(found, done.theirs.predict(done.features), rtol=1e-5)
    assert found.shape == (300,)


def test_the_faster_engine_is_taken_at_each_size(tmp_path: Path) -> None:
    done = Exported(RandomForestClassifier(20, random_state=0), flowers(300), tmp_path)
    timings = {timing.rows: timing for timing in done.found.timings}
    assert sorted(timings) == [1, 32, 1000]
    assert timings[1].onnx_ms < timings[1].sklearn_ms
    predictor = Predictor.load(done.out)
    assert predictor.predict(np.zeros((1, 4)), (PREDICT,)).engine is Engine.ONNX
    # Decision values, which ONNX has none of, and whatever goes with them, are scikit-learn's.
    assert predictor.engine_for(1, (PREDICT, PredictMethod.DECISION_FUNCTION)) is Engine.SKLEARN


def test_missing_values_go_the_way_they_do_in_scikit_learn(tmp_path: Path) -> None:
    frame = flowers(400)
    frame.loc[::5, "a"] = np.nan
    done = Exported(HistGradientBoostingClassifier(max_iter=10), frame, tmp_path)
    assert done.found.methods == (PREDICT, PROBA)


@pytest.mark.parametrize(
    ("model", "frame", "reason"),
    [
        (make_pipeline(make_column_transformer((StandardScaler(), ["real"])), LogisticRegression()), mixed(), "'word' is categorical"),
        (KNeighborsClassifier(), flowers(300), "scikit-learn is faster at every size"),
        (make_pipeline(PowerTransformer(), LogisticRegression()), flowers().assign(a=lambda frame: frame["a"] * 1e30), ""),
    ],
)  # fmt: skip
def test_what_is_not_exported_says_why(model: Any, frame: pd.DataFrame, reason: str, tmp_path: Path) -> None:
    done = Exported(model, frame, tmp_path)
    if reason:
        assert reason in done.found.reason
    if done.found.reason:
        assert Predictor.load(done.out).predict(columns_of(done.features), (PREDICT,)).engine is Engine.SKLEARN


def test_a_converter_that_fails_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> bytes:
        raise RuntimeError("no converter for this one")

    monkeypatch.setattr(onnx_export, "converted", fail)
    done = Exported(LogisticRegression(), flowers(), tmp_path)
    assert done.found.reason == "the conversion failed: RuntimeError: no converter for this one"


def test_a_model_that_disagrees_is_not_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_another(model: Any, features: int, *, is_double: bool) -> bytes:
        model[-1].coef_ = model[-1].coef_ * 1.001
        made = converted(model, features, is_double=is_double)
        model[-1].coef_ = model[-1].coef_ / 1.001
        return made

    monkeypatch.setattr(onnx_export, "converted", of_another)
    model = make_pipeline(StandardScaler(), LinearRegression())
    done = Exported(model, prices(), tmp_path, Task.REGRESSION)
    assert "predict differs by" in done.found.reason


def test_labels_alone_are_exported_of_a_model_without_probabilities(tmp_path: Path) -> None:
    done = Exported(LinearSVC(), flowers(classes=2), tmp_path)
    assert done.found.methods == (PREDICT,)
    with pytest.raises(Exception, match="not exported to ONNX"):
        Predictor.load(done.out).predict(np.zeros((1, 4)), (PredictMethod.DECISION_FUNCTION,), engine=Engine.ONNX)


def test_a_damaged_export_leaves_scikit_learn(tmp_path: Path) -> None:
    done = Exported(LogisticRegression(), flowers(), tmp_path)
    (done.out / names.ONNX_FILE).write_bytes(json.dumps({}).encode())
    predicted = Predictor.load(done.out).predict(np.zeros((1, 4)), (PREDICT,))
    assert predicted.engine is Engine.SKLEARN
