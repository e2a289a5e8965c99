from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from mlops import names
from mlops.errors import DataInvalid, FitFailed
from mlops.jobs.defaults import default_estimator
from mlops.jobs.estimator import EstimatorSpec, ParamList, ParamValue
from mlops.jobs.literals import to_value
from mlops.jobs.report import ModelNotes, StepResult
from mlops.jobs.training import Resources, Splitter, Task
from mlops.ml import modelfile
from mlops.ml.estimators import build
from mlops.ml.frame import load_frame
from mlops.ml.scoring import Remembered
from mlops.ml.training import weight_parameter
from tests.fixtures.plans import Run, flowers, prices, spec

FOREST = spec("sklearn.ensemble.RandomForestClassifier", n_estimators=10)
RIDGE = spec("sklearn.linear_model.Ridge")
LINEAR_SVC = spec("sklearn.svm.LinearSVC")


def pipeline(*steps: EstimatorSpec) -> EstimatorSpec:
    pairs = tuple(
        ParamValue(tuple=ParamList(items=(to_value(step.class_name.lower()), ParamValue(object=step))))
        for step in steps
    )
    return EstimatorSpec(path="sklearn.pipeline.Pipeline", params={"steps": ParamValue(list=ParamList(items=pairs))})


SCALED = pipeline(spec("sklearn.preprocessing.StandardScaler"), spec("sklearn.linear_model.LogisticRegression"))


@pytest.mark.parametrize(
    ("estimator", "theirs"),
    [
        (FOREST, RandomForestClassifier(10, random_state=7)),
        (SCALED, make_pipeline(StandardScaler(), LogisticRegression(random_state=7))),
        (LINEAR_SVC, LinearSVC(random_state=7)),
    ],
)
def test_fold_scores_are_cross_validates(estimator: EstimatorSpec, theirs: Any, tmp_path: Path) -> None:
    scoring: tuple[str, ...] = ("accuracy", "f1_macro")
    if hasattr(theirs, "predict_proba"):
        scoring += ("roc_auc_ovr", "neg_log_loss")
    frame = flowers()
    run = Run(frame, tmp_path, estimator=estimator, scoring=scoring, folds=4, holdout_fraction=0.0)
    ours = [run.step(index).scores for index in range(4)]
    splitter = StratifiedKFold(4, shuffle=True, random_state=7)
    expected = cross_validate(theirs, frame[["a", "b", "c", "noise"]], frame["y"], cv=splitter, scoring=scoring)
    for name in scoring:
        np.testing.assert_allclose([scores[name] for scores in ours], expected[f"test_{name}"], rtol=1e-9)


def test_regression_fold_scores_are_cross_validates(tmp_path: Path) -> None:
    scoring = ("r2", "neg_root_mean_squared_error")
    frame = prices()
    run = Run(
        frame,
        tmp_path,
        estimator=RIDGE,
        task=Task.REGRESSION,
        splitter=Splitter.SHUFFLED,
        scoring=scoring,
        folds=3,
        holdout_fraction=0.0,
    )
    splitter = KFold(3, shuffle=True, random_state=7)
    expected = cross_validate(
        Ridge(random_state=7), frame[["a", "b", "c", "noise"]], frame["y"], cv=splitter, scoring=scoring
    )
    for name in scoring:
        ours = [(run.step(index) if name == "r2" else _read(run, index)).scores[name] for index in range(3)]
        np.testing.assert_allclose(ours, expected[f"test_{name}"], rtol=1e-9)


def _read(run: Run, fold: int) -> StepResult:
    return StepResult.model_validate_json(
        (run.directory / names.fold_step(fold) / names.STEP_RESULT).read_text(encoding="utf-8")
    )


def test_the_same_plan_gives_the_same_result_twice(tmp_path: Path) -> None:
    seen = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run = Run(flowers(), tmp_path / name, estimator=FOREST, scoring=("accuracy", "neg_log_loss"), folds=3)
        fit, fold = run.step(), run.step(2)
        predictions = pq.read_table(tmp_path / name / "fit" / names.STEP_PREDICTIONS)
        importances = (tmp_path / name / "fit" / names.STEP_IMPORTANCES).read_text(encoding="utf-8")
        seen.append((fit.scores, fold.scores, predictions.to_pydict(), importances))
    assert seen[0] == seen[1]


def test_the_final_fit_leaves_a_model_its_notes_an_example_and_the_holdouts_predictions(tmp_path: Path) -> None:
    run = Run(flowers(), tmp_path, estimator=FOREST, scoring=("accuracy", "roc_auc_ovr"))
    result = run.step()
    out = tmp_path / "fit"
    assert (result.train_rows, result.test_rows) == (120, 30)
    assert result == StepResult.model_validate_json((out / names.STEP_RESULT).read_text(encoding="utf-8"))
    table = pq.read_table(out / names.STEP_PREDICTIONS)
    classes = ["iris", "rose", "tulip"]
    assert table.column_names == ["row", "truth", "prediction", *(f"probability[{label}]" for label in classes)]
    model = modelfile.load(out / names.STEP_MODEL)
    features = load_frame(run.data, run.plan.features).iloc[table["row"].to_numpy()]
    assert model.predict(features).tolist() == table["prediction"].to_pylist()
    assert np.mean(table["prediction"].to_numpy() == table["truth"].to_numpy()) == result.scores["accuracy"]
    notes = ModelNotes.model_validate_json((out / names.STEP_NOTES).read_text(encoding="utf-8"))
    assert "sklearn.tree._tree.Tree" in notes.trusted_types
    assert notes.size_bytes == (out / names.STEP_MODEL).stat().st_size
    assert set(notes.versions) == {"python", "scikit-learn", "numpy", "scipy", "skops", "mlops"}
    example = json.loads((out / names.STEP_EXAMPLE).read_text(encoding="utf-8"))
    assert example["columns"] == ["a", "b", "c", "noise"]
    assert len(example["data"]) == 5
    importances = json.loads((out / names.STEP_IMPORTANCES).read_text(encoding="utf-8"))
    assert importances["kind"] == "permutation"
    assert importances["features"][0]["feature"] in ("a", "b")
    assert {item["feature"] for item in importances["features"]} == {"a", "b", "c", "noise"}


def test_without_a_holdout_the_model_learns_from_all_rows_and_impurity_says_what_matters(tmp_path: Path) -> None:
    run = Run(flowers(), tmp_path, estimator=FOREST, holdout_fraction=0.0, folds=3)
    result = run.step()
    assert (result.train_rows, result.test_rows, result.scores) == (150, 0, {})
    assert not (tmp_path / "fit" / names.STEP_PREDICTIONS).exists()
    importances = json.loads((tmp_path / "fit" / names.STEP_IMPORTANCES).read_text(encoding="utf-8"))
    assert importances["kind"] == "impurity"
    assert sum(item["importance"] for item in importances["features"]) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["text", "boolean", "integer", "number", "categorical"])
def test_labels_of_every_kind_are_learnt_and_given_back(kind: str, tmp_path: Path) -> None:
    frame = flowers(classes=2)
    positive = frame["y"] == "rose"
    labels = {
        "text": frame["y"],
        "boolean": positive,
        "integer": positive.astype(np.int64) * 3,
        "number": positive.astype(np.float64),
        "categorical": frame["y"].astype("category"),
    }
    frame["y"] = labels[kind]
    run = Run(frame, tmp_path, estimator=FOREST, scoring=("accuracy", "roc_auc", "f1_macro"), folds=2)
    result, fold = run.step(), run.step(0)
    assert result.scores["roc_auc"] > 0.6
    assert fold.scores["accuracy"] > 0.6
    table = pq.read_table(tmp_path / "fit" / names.STEP_PREDICTIONS)
    expected = set(labels[kind].tolist())
    assert set(table["truth"].to_pylist()) == set(table["prediction"].to_pylist()) == expected


def test_rows_without_a_target_are_not_trained_on_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    frame = prices()
    frame.loc[::3, "y"] = np.nan
    run = Run(frame, tmp_path, estimator=RIDGE, task=Task.REGRESSION, splitter=Splitter.SHUFFLED, scoring=("r2",))
    result = run.step()
    assert result.train_rows + result.test_rows == 100
    table = pq.read_table(tmp_path / "fit" / names.STEP_PREDICTIONS)
    rows = table["row"].to_numpy()
    assert not (rows % 3 == 0).any()
    np.testing.assert_array_equal(table["truth"].to_numpy(), frame["y"].to_numpy()[rows])


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_sample_weights_reach_the_estimator(in_pipeline: bool, tmp_path: Path) -> None:
    frame = prices()
    frame["w"] = np.where(np.arange(150) < 75, 1.0, 0.0)
    frame.loc[75:, "y"] += 100.0
    estimator = pipeline(spec("sklearn.preprocessing.StandardScaler"), RIDGE) if in_pipeline else RIDGE
    run = Run(
        frame,
        tmp_path,
        estimator=estimator,
        task=Task.REGRESSION,
        splitter=Splitter.SHUFFLED,
        scoring=("r2",),
        weight_column="w",
        holdout_fraction=0.0,
    )
    run.step()
    model = modelfile.load(tmp_path / "fit" / names.STEP_MODEL)
    # Rows of weight 0 are 100 higher; a fit that heard of the weights does not see them.
    assert abs(model.predict(frame[["a", "b", "c", "noise"]]).mean()) < 5


def test_the_weight_parameter_is_found_through_everything_that_hands_it_on() -> None:
    inner = make_pipeline(StandardScaler(), LogisticRegression())
    assert weight_parameter(LogisticRegression()) == "sample_weight"
    assert weight_parameter(inner) == "logisticregression__sample_weight"
    assert weight_parameter(GridSearchCV(inner, {})) == "logisticregression__sample_weight"
    assert weight_parameter(make_pipeline(StandardScaler(), inner)) == "pipeline__logisticregression__sample_weight"


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_weights_that_are_none_are_refused(weight: float, tmp_path: Path) -> None:
    frame = flowers()
    frame["w"] = 1.0
    frame.loc[3, "w"] = weight
    with pytest.raises(DataInvalid, match="'w' is missing, infinite or negative in 1 rows") as caught:
        Run(frame, tmp_path, weight_column="w").step()
    assert caught.value.step == "fit"


def test_groups_are_never_split_and_are_no_features(tmp_path: Path) -> None:
    frame = flowers()
    frame["g"] = pd.Categorical([f"patient {row % 15}" for row in range(150)])
    run = Run(frame, tmp_path, splitter=Splitter.GROUPED, group_column="g", folds=3)
    run.step()
    run.step(1)
    test = {
        step: set(pq.read_table(tmp_path / step / names.STEP_PREDICTIONS)["row"].to_numpy() % 15)
        for step in ("fit", "fold-1")
    }
    assert not test["fit"] & test["fold-1"]
    assert [column.name for column in run.plan.features] == ["a", "b", "c", "noise"]


def test_a_time_column_of_dates_keeps_the_latest_rows_apart(tmp_path: Path) -> None:
    frame = prices()
    frame["at"] = pd.date_range("2024-01-01", periods=150, tz="UTC")[::-1]
    run = Run(
        frame,
        tmp_path,
        estimator=RIDGE,
        task=Task.REGRESSION,
        scoring=("r2",),
        splitter=Splitter.TIME_SERIES,
        time_column="at",
    )
    run.step()
    rows = pq.read_table(tmp_path / "fit" / names.STEP_PREDICTIONS)["row"].to_pylist()
    assert sorted(rows) == list(range(30))


def test_warnings_of_a_fit_are_reported_once_each(tmp_path: Path) -> None:
    estimator = spec("sklearn.linear_model.LogisticRegression", max_iter=1)
    result = Run(flowers(), tmp_path, estimator=estimator).step()
    assert len(result.warnings) == 1
    assert result.warnings[0].startswith("ConvergenceWarning: lbfgs failed to converge")


def test_progress_and_losses_of_a_fit_come_out(tmp_path: Path) -> None:
    said: list[tuple[float | None, str]] = []
    estimator = spec("sklearn.ensemble.GradientBoostingClassifier", n_estimators=10)
    result = Run(flowers(), tmp_path, estimator=estimator).step(
        report=lambda fraction, message="", **_: said.append((fraction, message))
    )
    fractions = [fraction for fraction, _ in said if fraction is not None]
    assert fractions == sorted(fractions)
    assert said[-1] == (1.0, "done")
    assert (0.9, "iteration 10 of 10") in said
    assert [point.step for point in result.progress if point.name == "loss"] == list(range(1, 11))


def test_memory_and_times_are_measured(tmp_path: Path) -> None:
    result = Run(flowers(), tmp_path, estimator=FOREST).step()
    assert 10_000_000 < result.peak_memory_bytes < 4_000_000_000
    assert 0 < result.fit_seconds < 60
    assert 0 < result.score_seconds < 60


def test_two_cpus_give_the_model_that_one_gives(tmp_path: Path) -> None:
    scores = []
    for cpus in (1, 2):
        (tmp_path / str(cpus)).mkdir()
        run = Run(flowers(), tmp_path / str(cpus), estimator=FOREST, resources=Resources(cpus=cpus))
        scores.append(run.step().scores)
    assert scores[0] == scores[1]


def test_text_for_an_estimator_that_takes_numbers_fails_with_scikit_learns_words_and_a_hint(tmp_path: Path) -> None:
    frame = flowers()
    frame["colour"] = pd.Categorical(np.where(np.arange(150) % 2, "red", "blue"))
    with pytest.raises(FitFailed, match="could not convert string to float") as caught:
        Run(frame, tmp_path, folds=2).step(1)
    assert caught.value.step == "fold-1"
    assert caught.value.error_class == "ValueError"
    assert "ColumnTransformer" in caught.value.hint
    assert not (tmp_path / "fold-1" / names.STEP_RESULT).exists()


def test_missing_values_fail_with_a_hint_to_impute(tmp_path: Path) -> None:
    frame = flowers()
    frame.loc[5, "a"] = np.nan
    with pytest.raises(FitFailed, match="contains NaN") as caught:
        Run(frame, tmp_path).step()
    assert "SimpleImputer" in caught.value.hint


def test_parameters_that_do_not_go_together_fail_with_a_hint(tmp_path: Path) -> None:
    estimator = spec("sklearn.svm.LinearSVC", loss="hinge", dual=False)
    with pytest.raises(FitFailed) as caught:
        Run(flowers(), tmp_path, estimator=estimator).step()
    assert "do not go together" in caught.value.hint


def test_a_single_class_among_the_training_rows_is_refused(tmp_path: Path) -> None:
    frame = flowers()
    frame["y"] = "iris"
    with pytest.raises(DataInvalid, match="all 120 training rows are of one class, 'iris'"):
        Run(frame, tmp_path, splitter=Splitter.SHUFFLED).step()


def test_a_target_without_any_value_is_refused(tmp_path: Path) -> None:
    frame = prices()
    frame["y"] = np.nan
    with pytest.raises(DataInvalid, match="'y' has no values"):
        Run(frame, tmp_path, estimator=RIDGE, task=Task.REGRESSION, splitter=Splitter.SHUFFLED).step()


def test_a_scorer_that_fails_gives_nan_and_says_why_while_the_others_count(tmp_path: Path) -> None:
    # f1 needs a class named 1.
    run = Run(flowers(classes=2), tmp_path, scoring=("accuracy", "f1"))
    result = run.step()
    assert result.scores["accuracy"] > 0.5
    assert np.isnan(result.scores["f1"])
    assert any(warning.startswith("f1 could not be computed") for warning in result.warnings)
    stored = StepResult.model_validate_json((tmp_path / "fit" / names.STEP_RESULT).read_text(encoding="utf-8"))
    assert np.isnan(stored.scores["f1"])


def test_when_no_scorer_works_the_step_fails(tmp_path: Path) -> None:
    with pytest.raises(FitFailed) as caught:
        Run(flowers(classes=2), tmp_path, scoring=("f1",)).step()
    assert caught.value.step == "fit"


def test_a_model_predicts_each_kind_of_answer_once(tmp_path: Path) -> None:
    class Counting(LogisticRegression):  # type: ignore[misc]  # scikit-learn has no types
        calls: list[str] = []  # noqa: RUF012  # shared on purpose: counts over copies

        def predict_proba(self, X: Any) -> Any:  # noqa: N803  # scikit-learn's name
            self.calls.append("predict_proba")
            return super().predict_proba(X)

    frame = flowers()
    features = frame[["a", "b", "c", "noise"]]
    model = Counting().fit(features, frame["y"])
    remembered = Remembered(model, features)
    first, second = remembered.predict_proba(features), remembered.predict_proba(features)
    assert first is second
    assert model.calls == ["predict_proba"]
    assert not hasattr(remembered, "no_such_method")


def test_the_default_for_mixed_columns_trains_end_to_end(tmp_path: Path) -> None:
    frame = flowers()
    frame["colour"] = pd.Categorical(np.where(np.arange(150) % 2, "red", "blue"))
    frame.loc[::7, "colour"] = np.nan
    frame["at"] = pd.date_range("2024-01-01", periods=150, tz="UTC")
    frame["rich"] = frame["a"] > 0
    run = Run(frame, tmp_path)
    estimator = default_estimator(run.plan.features, Task.CLASSIFICATION, rows=len(frame))
    build(estimator, seed=0)
    (tmp_path / "run").mkdir()
    result = Run(frame, tmp_path / "run", estimator=estimator, scoring=("accuracy", "neg_log_loss")).step()
    assert result.scores["accuracy"] > 0.5
    assert modelfile.load(tmp_path / "run" / "fit" / names.STEP_MODEL) is not None
