from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from mlops import names
from mlops.errors import FitFailed
from mlops.jobs.report import Curve, TrainingReport
from mlops.jobs.training import Splitter, Task
from mlops.ml import plots
from mlops.ml.curves import MAX_CLASSES, MAX_POINTS, curves_of
from tests.fixtures.plans import Run, flowers, prices, spec

FOREST = spec("sklearn.ensemble.RandomForestClassifier", n_estimators=10)
PNG = b"\x89PNG\r\n"


def predictions(run: Run, *steps: str) -> pd.DataFrame:
    frames: list[pd.DataFrame] = [
        pq.read_table(run.directory / step / names.STEP_PREDICTIONS).to_pandas() for step in steps
    ]
    return pd.concat(frames)


def on_curve(curve: Curve, x: Any, y: Any) -> bool:
    points = set(zip(np.asarray(x).tolist(), np.asarray(y).tolist(), strict=True))
    return all(point in points for point in zip(curve.x, curve.y, strict=True))


def test_a_holdout_is_what_the_report_speaks_of(tmp_path: Path) -> None:
    run = Run(flowers(), tmp_path, estimator=FOREST, scoring=("accuracy", "roc_auc_ovr"), folds=3)
    results, report = run.all()
    held = predictions(run, "fit")
    assert report.holdout == results["fit"].scores
    assert report.confusion_matrix is not None
    assert report.confusion_matrix.labels == ("iris", "rose", "tulip")
    np.testing.assert_array_equal(
        report.confusion_matrix.counts, confusion_matrix(held["truth"].to_list(), held["prediction"].to_list())
    )
    for summary in report.cross_validation:
        folds = [results[f"fold-{index}"].scores[summary.name] for index in range(3)]
        assert summary.folds == tuple(folds)
        assert summary.mean == pytest.approx(np.mean(folds))
        assert summary.deviation == pytest.approx(np.std(folds))
    assert report.total_fit_seconds == pytest.approx(sum(result.fit_seconds for result in results.values()))
    assert report.fit_seconds == results["fit"].fit_seconds
    assert report.peak_memory_bytes == max(result.peak_memory_bytes for result in results.values())
    assert report.model_bytes == (tmp_path / "fit" / names.STEP_MODEL).stat().st_size
    assert report.importance_kind == "permutation"
    assert report.versions["scikit-learn"].startswith("1.")
    stored = (tmp_path / "evaluate" / names.STEP_REPORT).read_text(encoding="utf-8")
    assert TrainingReport.model_validate_json(stored) == report


def test_curves_are_scikit_learns(tmp_path: Path) -> None:
    run = Run(flowers(600), tmp_path, estimator=FOREST, holdout_fraction=0.4)
    _, report = run.all()
    held = predictions(run, "fit")
    assert {(curve.kind, curve.label) for curve in report.curves} == {
        (kind, label) for kind in ("roc", "pr") for label in ("iris", "rose", "tulip")
    }
    for curve in report.curves:
        positive, score = held["truth"] == curve.label, held[f"probability[{curve.label}]"]
        if curve.kind == "roc":
            x, y, _ = roc_curve(positive, score)
            assert curve.area == pytest.approx(roc_auc_score(positive, score))
        else:
            y, x, _ = precision_recall_curve(positive, score)
            assert curve.area == pytest.approx(average_precision_score(positive, score))
        assert on_curve(curve, x, y)


def test_without_a_holdout_out_of_fold_predictions_are_judged(tmp_path: Path) -> None:
    run = Run(flowers(classes=2), tmp_path, estimator=FOREST, holdout_fraction=0.0, folds=3)
    _, report = run.all()
    assert report.holdout == {}
    assert report.confusion_matrix is not None
    assert np.sum(report.confusion_matrix.counts) == 150
    assert [(curve.kind, curve.label) for curve in report.curves] == [("roc", "rose"), ("pr", "rose")]
    judged = predictions(run, "fold-0", "fold-1", "fold-2")
    area = roc_auc_score(judged["truth"] == "rose", judged["probability[rose]"])
    assert report.curves[0].area == pytest.approx(area)


def test_regression_reports_residuals(tmp_path: Path) -> None:
    run = Run(
        prices(),
        tmp_path,
        estimator=spec("sklearn.linear_model.Ridge"),
        task=Task.REGRESSION,
        splitter=Splitter.SHUFFLED,
        scoring=("r2",),
    )
    _, report = run.all()
    held = predictions(run, "fit")
    residuals = held["truth"] - held["prediction"]
    assert report.residuals is not None
    assert report.residuals.mean == pytest.approx(residuals.mean())
    assert report.residuals.deviation == pytest.approx(residuals.std(ddof=0))
    assert report.residuals.median == pytest.approx(residuals.median())
    assert report.residuals.quantile_95 == pytest.approx(residuals.quantile(0.95))
    assert report.confusion_matrix is None
    assert report.curves == ()
    assert report.classes == ()
    assert report.plots == (plots.RESIDUALS, plots.IMPORTANCES)


def test_decision_values_make_curves_where_there_are_no_probabilities(tmp_path: Path) -> None:
    run = Run(flowers(classes=2), tmp_path, estimator=spec("sklearn.svm.LinearSVC"))
    _, report = run.all()
    held = predictions(run, "fit")
    assert report.curves[0].area == pytest.approx(roc_auc_score(held["truth"] == "rose", held["score[rose]"]))


def test_integer_classes_stand_in_the_order_of_numbers(tmp_path: Path) -> None:
    frame = flowers()
    frame["y"] = frame["y"].map({"iris": 2, "rose": 10, "tulip": 1}).astype(np.int64)
    _, report = Run(frame, tmp_path, estimator=FOREST).all()
    assert report.classes == ("1", "2", "10")


def test_a_class_that_a_fold_never_saw_does_no_harm(tmp_path: Path) -> None:
    frame = flowers()
    frame["g"] = np.where(frame["y"] == "tulip", 0, np.arange(150) % 9 + 1)
    run = Run(
        frame,
        tmp_path,
        estimator=FOREST,
        splitter=Splitter.GROUPED,
        group_column="g",
        folds=3,
        holdout_fraction=0.0,
    )
    results, report = run.all()
    assert report.classes == ("iris", "rose", "tulip")
    assert report.confusion_matrix is not None
    assert np.sum(report.confusion_matrix.counts) == sum(
        result.test_rows for step, result in results.items() if step != "fit"
    )


def test_neither_folds_nor_a_holdout_leave_a_report_of_the_model_alone(tmp_path: Path) -> None:
    _, report = Run(flowers(), tmp_path, estimator=FOREST, holdout_fraction=0.0).all()
    assert report.confusion_matrix is None
    assert report.cross_validation == ()
    assert report.importance_kind == "impurity"
    assert report.plots == (plots.IMPORTANCES,)


def test_all_plots_are_written_as_pngs(tmp_path: Path) -> None:
    _, report = Run(flowers(), tmp_path, estimator=FOREST).all()
    assert report.plots == (
        plots.CONFUSION_MATRIX,
        plots.ROC_CURVES,
        plots.PRECISION_RECALL_CURVES,
        plots.IMPORTANCES,
    )
    for name in report.plots:
        assert (tmp_path / "evaluate" / name).read_bytes().startswith(PNG)


def test_names_that_no_font_has_and_long_ones_do_not_spoil_a_plot(tmp_path: Path) -> None:
    frame = flowers().rename(columns={"a": "$x_{1}", "b": "温度", "c": "c" * 400})
    frame["y"] = frame["y"].map({"iris": "\U0001f33c\n\x00", "rose": "$\\frac", "tulip": "t" * 300})
    frame["y"] = frame["y"].str.replace("\x00", "")
    _, report = Run(frame, tmp_path, estimator=FOREST).all()
    assert len(report.plots) == 4


def test_warnings_of_all_steps_are_gathered_once(tmp_path: Path) -> None:
    estimator = spec("sklearn.linear_model.LogisticRegression", max_iter=1)
    _, report = Run(flowers(), tmp_path, estimator=estimator, folds=2).all()
    assert len([warning for warning in report.warnings if "ConvergenceWarning" in warning]) == 1


def test_a_long_curve_keeps_its_ends_and_its_shape_in_200_points() -> None:
    rng = np.random.default_rng(0)
    truth = np.where(rng.random(20_000) < 0.3, "yes", "no")
    score = rng.normal(size=20_000) + (truth == "yes")
    roc, pr = curves_of(truth, np.column_stack([-score, score]), ("no", "yes"))
    x, y, _ = roc_curve(truth == "yes", score)
    assert len(roc.x) <= MAX_POINTS
    assert len(pr.x) <= MAX_POINTS
    assert on_curve(roc, x, y)
    assert (roc.x[0], roc.y[0], roc.x[-1], roc.y[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(roc.y, roc.x) == pytest.approx(roc.area, abs=0.003)
    assert list(pr.x) == sorted(pr.x)
    assert np.abs(np.interp(x, roc.x, roc.y) - y).max() < 0.02


def test_of_many_classes_the_most_frequent_are_drawn() -> None:
    rng = np.random.default_rng(0)
    classes = tuple(f"c{index}" for index in range(30))
    truth = np.repeat(classes, np.arange(1, 31))
    drawn = {curve.label for curve in curves_of(truth, rng.random((len(truth), 30)), classes)}
    assert drawn == {f"c{index}" for index in range(30 - MAX_CLASSES, 30)}


def test_missing_inputs_fail_with_the_step_named(tmp_path: Path) -> None:
    run = Run(flowers(), tmp_path, estimator=FOREST)
    (tmp_path / "fit").mkdir()
    with pytest.raises(FitFailed) as caught:
        run.evaluate(("fit",))
    assert caught.value.step == "evaluate"
