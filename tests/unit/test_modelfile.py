from __future__ import annotations

import functools
import importlib
import json
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from scipy.stats import loguniform, randint
from sklearn.datasets import make_classification
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mlops.errors import UnsafeModel
from mlops.jobs.allowlist import Entry, allowlist
from mlops.jobs.estimator import EstimatorSpec, ParamList, ParamValue
from mlops.jobs.literals import to_value, to_values
from mlops.ml import modelfile
from mlops.ml.estimators import build
from mlops.ml.trusted import TRUSTED

X, LABELS = make_classification(60, 5, random_state=0)
X = np.abs(X)
NUMBERS = 1.0 + X @ np.arange(1.0, 6.0)

# What these need to fit a toy table quickly, besides the defaults.
PARAMS: dict[str, dict[str, object]] = {
    "sklearn.cross_decomposition.CCA": {"n_components": 1},
    "sklearn.cross_decomposition.PLSCanonical": {"n_components": 1},
    "sklearn.ensemble.AdaBoostClassifier": {"n_estimators": 3},
    "sklearn.ensemble.AdaBoostRegressor": {"n_estimators": 3},
    "sklearn.ensemble.BaggingClassifier": {"n_estimators": 3},
    "sklearn.ensemble.BaggingRegressor": {"n_estimators": 3},
    "sklearn.ensemble.ExtraTreesClassifier": {"n_estimators": 3},
    "sklearn.ensemble.ExtraTreesRegressor": {"n_estimators": 3},
    "sklearn.ensemble.GradientBoostingClassifier": {"n_estimators": 3},
    "sklearn.ensemble.GradientBoostingRegressor": {"n_estimators": 3},
    "sklearn.ensemble.HistGradientBoostingClassifier": {"max_iter": 3},
    "sklearn.ensemble.HistGradientBoostingRegressor": {"max_iter": 3},
    "sklearn.ensemble.RandomForestClassifier": {"n_estimators": 3},
    "sklearn.ensemble.RandomForestRegressor": {"n_estimators": 3},
    "sklearn.linear_model.LogisticRegressionCV": {"Cs": 2, "cv": 2},
    "sklearn.model_selection.TunedThresholdClassifierCV": {"cv": 2, "thresholds": 5},
    "sklearn.neural_network.MLPClassifier": {"max_iter": 5},
    "sklearn.neural_network.MLPRegressor": {"max_iter": 5},
}
INNER = {
    "classifier": EstimatorSpec(path="sklearn.tree.DecisionTreeClassifier"),
    "regressor": EstimatorSpec(path="sklearn.tree.DecisionTreeRegressor"),
}


def predictors() -> list[Entry]:
    return [entry for entry in allowlist().entries.values() if entry.kind in INNER]


def spec_of(entry: Entry) -> EstimatorSpec:
    """A spec of the entry that can be fitted: required parameters get the simplest thing that will do."""
    params = to_values(PARAMS.get(entry.path, {}))
    inner = ParamValue(object=INNER[entry.kind])
    for name, parameter in entry.params.items():
        if name in params:
            continue
        if name == "estimators" and parameter.required:
            pair = ParamValue(tuple=ParamList(items=(to_value("tree"), inner)))
            params[name] = ParamValue(list=ParamList(items=(pair,)))
        elif name in ("estimator", "base_estimator") and (parameter.required or "SelfTraining" in entry.path):
            params[name] = inner
        elif name in ("param_grid", "param_distributions"):
            params[name] = to_value({"max_depth": [1, 2]})
        elif name == "n_iter" and "Search" in entry.path:
            params[name] = to_value(2)
    return EstimatorSpec(path=entry.path, params=params)


def table_of(entry: Entry) -> tuple[Any, Any]:
    features = X[:, :1] if entry.one_dimensional else X
    if entry.kind == "regressor":
        return features, NUMBERS
    labels = LABELS.copy()
    if "SelfTraining" in entry.path or "semi_supervised" in entry.path:
        labels[::10] = -1
    return features, labels


@pytest.mark.parametrize("entry", predictors(), ids=lambda entry: entry.path.rpartition(".")[2])
def test_every_predictor_of_the_allow_list_survives_its_file(entry: Entry, tmp_path: Path) -> None:
    features, target = table_of(entry)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = build(spec_of(entry), seed=0)
        model.fit(features, target)
        types = modelfile.save(model, tmp_path / "model.skops")
        loaded = modelfile.load(tmp_path / "model.skops")
        assert set(types) <= set(TRUSTED)
        # Some multiply matrices, whose layout in memory decides on the last digits.
        if entry.kind == "regressor":
            np.testing.assert_allclose(loaded.predict(features), model.predict(features), rtol=1e-12)
        else:
            np.testing.assert_array_equal(loaded.predict(features), model.predict(features))
        if hasattr(model, "predict_proba"):
            np.testing.assert_allclose(loaded.predict_proba(features), model.predict_proba(features), rtol=1e-9)


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("sklearn.neighbors.KNeighborsClassifier", {"algorithm": "ball_tree", "metric": "manhattan"}),
        ("sklearn.neighbors.KNeighborsClassifier", {"algorithm": "kd_tree", "p": 3}),
        ("sklearn.neural_network.MLPClassifier", {"solver": "sgd", "max_iter": 3}),
        ("sklearn.calibration.CalibratedClassifierCV", {"method": "isotonic"}),
        ("sklearn.calibration.CalibratedClassifierCV", {"method": "temperature"}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 3, "scoring": "accuracy", "early_stopping": True}),
        ("sklearn.ensemble.HistGradientBoostingClassifier", {"max_iter": 3, "scoring": None, "early_stopping": True}),
        ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 3, "loss": "exponential"}),
        ("sklearn.model_selection.TunedThresholdClassifierCV", {"scoring": "f1"}),
    ],
)  # fmt: skip
def test_variants_of_predictors_survive_their_files(path: str, params: dict[str, object], tmp_path: Path) -> None:
    entry = allowlist().entries[path]
    model = build(EstimatorSpec(path=path, params=spec_of(entry).params | to_values(params)), seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(X, LABELS)
        modelfile.save(model, tmp_path / "model.skops")
        np.testing.assert_array_equal(modelfile.load(tmp_path / "model.skops").predict(X), model.predict(X))


HELD = ("splitter", "kernel", "selector")
REQUIRED: dict[str, dict[str, object]] = {
    "CompoundKernel": {"kernels": [RBF(), RBF()]},
    "Exponentiation": {"kernel": RBF(), "exponent": 2},
    "LeavePOut": {"p": 2},
    "PredefinedSplit": {"test_fold": [0, 1, 0, 1]},
    "Product": {"k1": RBF(), "k2": RBF()},
    "Sum": {"k1": RBF(), "k2": RBF()},
}


def imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", [entry.path for entry in allowlist().entries.values() if entry.kind in HELD])
def test_every_object_that_a_parameter_may_hold_survives_a_file(path: str, tmp_path: Path) -> None:
    made = imported(path)(**REQUIRED.get(path.rpartition(".")[2], {}))
    modelfile.save({"held": made}, tmp_path / "object.skops")
    loaded = modelfile.load(tmp_path / "object.skops")["held"]
    assert type(loaded) is type(made)
    assert str(vars(loaded).keys()) == str(vars(made).keys())


def test_a_randomised_search_keeps_what_it_drew_from_as_text(tmp_path: Path) -> None:
    drawn_from = {"C": loguniform(0.1, 10.0), "max_iter": randint(low=50, high=99), "solver": ["lbfgs"]}
    model = RandomizedSearchCV(LogisticRegression(), drawn_from, n_iter=2, cv=2, random_state=0).fit(X, LABELS)
    modelfile.save(model, tmp_path / "model.skops")
    loaded = modelfile.load(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    assert loaded.param_distributions == {
        "C": "loguniform(0.1, 10.0)",
        "max_iter": "randint(low=50, high=99)",
        "solver": ["lbfgs"],
    }


@pytest.mark.parametrize("path", sorted({*allowlist().functions, *allowlist().dtypes}))
def test_every_function_that_a_parameter_may_hold_survives_a_file(path: str, tmp_path: Path) -> None:
    modelfile.save({"held": imported(path)}, tmp_path / "object.skops")
    assert modelfile.load(tmp_path / "object.skops")["held"] is imported(path)


def test_a_pipeline_that_was_observed_keeps_no_callbacks(tmp_path: Path) -> None:
    class Callback:
        def setup(self, estimator: Any, context: Any) -> None: ...
        def teardown(self, estimator: Any, context: Any) -> None: ...
        def on_fit_task_begin(self, estimator: Any, context: Any) -> None: ...
        def on_fit_task_end(self, estimator: Any, context: Any) -> bool:
            return False

    model = make_pipeline(StandardScaler(), LogisticRegression())
    model[-1].set_callbacks(Callback())
    model.fit(X, LABELS)
    modelfile.save(model, tmp_path / "model.skops")
    assert modelfile.load(tmp_path / "model.skops").predict(X).shape == (60,)


def tampered(path: Path, change: Any) -> Path:
    """A copy of the model's file with its schema changed."""
    copy = path.with_name("tampered.skops")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "schema.json":
                schema = json.loads(content)
                change(schema)
                content = json.dumps(schema).encode()
            new.writestr(name, content)
    return copy


def saved(directory: Path) -> Path:
    path = directory / "model.skops"
    modelfile.save(LogisticRegression().fit(X, LABELS), path)
    return path


def test_a_model_that_was_changed_to_run_a_program_is_refused_by_the_type_s_name(tmp_path: Path) -> None:
    mark = tmp_path / "was-here"

    def change(schema: dict[str, Any]) -> None:
        schema["content"]["content"]["C"] = {
            "__class__": "system",
            "__module__": "os",
            "__loader__": "FunctionNode",
            "content": {"module_path": "os", "function": "system"},
        }

    with pytest.raises(UnsafeModel, match=r"os\.system") as caught:
        modelfile.load(tampered(saved(tmp_path), change))
    assert caught.value.details["types"] == ["os.system"]
    assert not mark.exists()


def test_a_partial_of_a_function_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(functools.partial(os.system, "true")), path)
    with pytest.raises(UnsafeModel, match="system"):
        modelfile.load(path)


def test_the_list_of_trusted_types_inside_a_file_counts_for_nothing(tmp_path: Path) -> None:
    class Foreign:
        def __init__(self) -> None:
            self.x = 1

    model = LogisticRegression().fit(X, LABELS)
    model.extra_ = Foreign()
    path = tmp_path / "model.skops"
    skops.io.dump(model, path)
    with pytest.raises(UnsafeModel, match="Foreign"):
        modelfile.load(path)
    with pytest.raises(UnsafeModel, match="Foreign"):
        modelfile.save(model, path)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UnsafeModel, match="no model, or a damaged one"):
        modelfile.load(path)
    with pytest.raises(UnsafeModel):
        modelfile.load(tampered(saved(tmp_path), lambda schema: schema.pop("__class__")))


def test_every_trusted_type_has_a_reason() -> None:
    assert all(reason and "." in name for name, reason in TRUSTED.items())
