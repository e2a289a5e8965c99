"""Puts together what the folds and the final fit left: one report, and the plots. Runs in a child of the pool."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops import names
from mlops.jobs.report import (
    ConfusionMatrix,
    Curve,
    MetricSummary,
    ModelNotes,
    ResidualSummary,
    StepResult,
    TrainingReport,
)
from mlops.jobs.training import StepTask, Task
from mlops.ml.curves import PRECISION_RECALL, ROC, curves_of
from mlops.ml.failures import translated
from mlops.ml.importances import Importances
from mlops.ml.progress import Report
from mlops.ml.scoring import Predictions

# A larger matrix helps no one, and its counts would be most of the report.
MAX_MATRIX_CLASSES = 100
MAX_WARNINGS = 50


@dataclass(frozen=True, kw_only=True)
class EvaluateCall:
    """The evaluation. `inputs`: step name to the directory of its files, less the model; `out`: an empty directory."""

    task: StepTask
    inputs: dict[str, Path]
    out: Path


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The rows that the report speaks of. `rows` says in words which ones they are."""

    truth: npt.NDArray[Any]
    prediction: npt.NDArray[Any]
    classes: tuple[str, ...]
    scores: npt.NDArray[np.float64] | None
    rows: str


def evaluate(call: EvaluateCall, report: Report) -> TrainingReport:
    """Writes plots/*.png and, last, report.json into `call.out`.

    Confusion matrix or residuals, and curves, are of the hold-out's predictions, or of the out-of-fold ones where
    there is no hold-out. Raises FitFailed where the numbers cannot be put together.
    """
    with translated(call.task.step):
        report(0.0, "reading the predictions")
        results = {
            step: StepResult.model_validate_json((directory / names.STEP_RESULT).read_bytes())
            for step, directory in call.inputs.items()
        }
        fit = call.inputs[names.FIT_STEP]
        notes = ModelNotes.model_validate_json((fit / names.STEP_NOTES).read_bytes())
        importances = Importances.model_validate_json((fit / names.STEP_IMPORTANCES).read_bytes())
        judged = _judged(call)
        is_classification = call.task.plan.task is Task.CLASSIFICATION
        report(0.3, "curves")
        matrix = residuals = None
        curves: tuple[Curve, ...] = ()
        if judged is not None and is_classification:
            matrix = confusion_matrix(judged)
            if judged.scores is not None:
                curves = curves_of(judged.truth, judged.scores, judged.classes)
        elif judged is not None:
            residuals = residual_summary(judged)
        report(0.5, "plots")
        drawn = _draw(call.out, judged, matrix, curves, importances)
        found = TrainingReport(
            cross_validation=_cross_validation(call, results),
            holdout=results[names.FIT_STEP].scores,
            confusion_matrix=matrix,
            residuals=residuals,
            curves=curves,
            importance_kind=importances.kind,
            importances=importances.features,
            classes=judged.classes if judged is not None and is_classification else (),
            fit_seconds=results[names.FIT_STEP].fit_seconds,
            total_fit_seconds=sum(result.fit_seconds for result in results.values()),
            peak_memory_bytes=max(result.peak_memory_bytes for result in results.values()),
            model_bytes=notes.size_bytes,
            warnings=_warnings(results),
            plots=drawn,
            versions=notes.versions,
        )
        (call.out / names.STEP_REPORT).write_text(found.model_dump_json(), encoding="utf-8")
    report(1.0, "done")
    return found


def confusion_matrix(judged: Judged) -> ConfusionMatrix | None:
    """Counts by true and predicted class; None with more than MAX_MATRIX_CLASSES classes."""
    count = len(judged.classes)
    if count > MAX_MATRIX_CLASSES:
        return None
    truth, prediction = _positions(judged.truth, judged.classes), _positions(judged.prediction, judged.classes)
    counts = np.bincount(truth * count + prediction, minlength=count * count).reshape(count, count)
    return ConfusionMatrix(labels=judged.classes, counts=tuple(tuple(map(int, row)) for row in counts))


def residual_summary(judged: Judged) -> ResidualSummary:
    """Of target minus prediction; the deviation is the population's."""
    residuals = judged.truth.astype(np.float64) - judged.prediction.astype(np.float64)
    quantiles = np.quantile(residuals, [0.05, 0.25, 0.5, 0.75, 0.95])
    low, lower, median, upper, high = (float(value) for value in quantiles)
    return ResidualSummary(
        mean=float(residuals.mean()),
        deviation=float(residuals.std()),
        minimum=float(residuals.min()),
        quantile_05=low,
        quantile_25=lower,
        median=median,
        quantile_75=upper,
        quantile_95=high,
        maximum=float(residuals.max()),
    )


def _cross_validation(call: EvaluateCall, results: Mapping[str, StepResult]) -> tuple[MetricSummary, ...]:
    plan = call.task.plan
    folds = [results[names.fold_step(index)] for index in range(plan.folds)]
    if not folds:
        return ()
    values = {name: tuple(fold.scores[name] for fold in folds) for name in plan.scoring}
    return tuple(
        MetricSummary(name=name, mean=float(np.mean(found)), deviation=float(np.std(found)), folds=found)
        for name, found in values.items()
    )


def _judged(call: EvaluateCall) -> Judged | None:
    plan = call.task.plan
    if plan.holdout_fraction > 0:
        parts, rows = [call.inputs[names.FIT_STEP]], "hold-out rows"
    else:
        parts = [call.inputs[names.fold_step(index)] for index in range(plan.folds)]
        rows = "out-of-fold rows"
    found = [Predictions.read(part / names.STEP_PREDICTIONS) for part in parts]
    if not found:
        return None
    truth = np.concatenate([part.truth for part in found])
    prediction = np.concatenate([part.prediction for part in found])
    if plan.task is Task.REGRESSION:
        return Judged(truth=truth, prediction=prediction, classes=(), scores=None, rows=rows)
    # Labels sort as what they are (2 before 10), and are named as text.
    labels: dict[Any, str] = {label: str(label) for label in (*np.unique(truth), *np.unique(prediction))}
    classes = tuple(dict.fromkeys(labels[label] for label in sorted(labels)))
    known = {label for part in found for label in part.classes}
    # A class that the judged rows lack was still learnt, and has its column.
    classes += tuple(label for label in _in_order(found) if label in known and label not in classes)
    return Judged(
        truth=truth.astype(str).astype(object),
        prediction=prediction.astype(str).astype(object),
        classes=classes,
        scores=_scores(found, classes),
        rows=rows,
    )


def _in_order(parts: Sequence[Predictions]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for part in parts for label in part.classes))


def _scores(parts: Sequence[Predictions], classes: tuple[str, ...]) -> npt.NDArray[np.float64] | None:
    """One column a class. A class that a fold never saw has probability 0 there, and no decision value."""
    columns = []
    for part in parts:
        if part.scores is None:
            return None
        missing = 0.0 if part.are_probabilities else np.nan
        aligned = np.full((len(part.truth), len(classes)), missing)
        for index, label in enumerate(part.classes):
            aligned[:, classes.index(label)] = part.scores[:, index]
        columns.append(aligned)
    return np.concatenate(columns)


def _positions(labels: npt.NDArray[Any], classes: tuple[str, ...]) -> npt.NDArray[np.intp]:
    where = {label: index for index, label in enumerate(classes)}
    return np.fromiter((where[label] for label in labels), dtype=np.intp, count=len(labels))


def _warnings(results: Mapping[str, StepResult]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for result in results.values() for text in result.warnings))[:MAX_WARNINGS]


def _draw(
    out: Path,
    judged: Judged | None,
    matrix: ConfusionMatrix | None,
    curves: Sequence[Curve],
    importances: Importances,
) -> tuple[str, ...]:
    # Only this function needs matplotlib, and the pool's template has it loaded.
    from mlops.ml import plots

    drawn: list[str] = []
    with warnings.catch_warnings():
        # A name may hold signs that the font lacks; the plot is still of use.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        if judged is not None and matrix is not None:
            plots.draw_confusion_matrix(matrix, out / plots.CONFUSION_MATRIX, rows=judged.rows)
            drawn.append(plots.CONFUSION_MATRIX)
        if judged is not None and any(curve.kind == ROC for curve in curves):
            plots.draw_roc(curves, out / plots.ROC_CURVES, rows=judged.rows)
            drawn.append(plots.ROC_CURVES)
        if judged is not None and any(curve.kind == PRECISION_RECALL for curve in curves):
            plots.draw_precision_recall(curves, out / plots.PRECISION_RECALL_CURVES, rows=judged.rows)
            drawn.append(plots.PRECISION_RECALL_CURVES)
        if judged is not None and not judged.classes:
            truth, prediction = judged.truth.astype(np.float64), judged.prediction.astype(np.float64)
            plots.draw_residuals(truth, prediction, out / plots.RESIDUALS, rows=judged.rows)
            drawn.append(plots.RESIDUALS)
        if importances.features:
            plots.draw_importances(importances.features, out / plots.IMPORTANCES, kind=importances.kind)
            drawn.append(plots.IMPORTANCES)
    return tuple(drawn)
