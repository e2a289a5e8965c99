"""Fits one fold, or the final model, and judges it on the rows kept apart. Runs in a child of the pool."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import has_fit_parameter
from threadpoolctl import threadpool_limits

from mlops import __version__, names
from mlops.errors import DataInvalid
from mlops.jobs.report import ModelNotes, StepResult
from mlops.jobs.training import StepTask, Task, TrainingPlan
from mlops.ml import importances, modelfile, splits
from mlops.ml.cards import card_of
from mlops.ml.caught import MAX_WARNING, collected, texts_of
from mlops.ml.cores import on_cores
from mlops.ml.estimators import build
from mlops.ml.failures import bounded, translated
from mlops.ml.memory import PeakMemory
from mlops.ml.observation import layers, observe
from mlops.ml.progress import Meter, Report, portion
from mlops.ml.scoring import Scored, score
from mlops.ml.table import Table, load_table

EXAMPLE_ROWS = 5
# Importances may take as long as the fit took, within these bounds.
MIN_IMPORTANCES_SECONDS = 2.0
MAX_IMPORTANCES_SECONDS = 30.0
IMPORTANCES_SHARE = 0.05
# How much of a step's bar is the fit.
_FITTED = 0.9


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """One fit. `data` is the dataset's canonical Arrow file, `out` an existing, empty directory."""

    task: StepTask
    data: Path
    out: Path


@dataclass(frozen=True, kw_only=True)
class _Fitted:
    model: Any
    table: Table
    split: splits.Split
    seconds: float


def fit_step(call: StepCall, report: Report) -> StepResult:
    """Does the step and leaves its files in `call.out`; result.json is written last.

    Every step that keeps rows apart leaves predictions.parquet; the final fit (`task.fold` is None) leaves
    model.skops, model.json, card.json, input_example.json and importances.json too. Raises DataInvalid, FitFailed,
    UnsafeModel and MemoryLimitExceeded, with the step's name.
    """
    plan, step = call.task.plan, call.task.step
    meter = Meter(portion(report, 0.0, _FITTED))
    with translated(step), PeakMemory() as memory, collected() as caught, on_cores(plan.resources.cpus):
        report(0.0, "reading the data")
        table = load_table(call.data, plan)
        fitted = _fit(plan, table, _split(call.task, table), meter)
        scored, score_seconds = _judge(plan, fitted, report)
        problems = () if scored is None else scored.problems
        if scored is not None:
            scored.predictions.write(call.out / names.STEP_PREDICTIONS)
        if call.task.fold is None:
            problems += _leave_model(plan, fitted, call.out, score_seconds, report)
    result = StepResult(
        step=step,
        scores={} if scored is None else scored.scores,
        train_rows=len(fitted.split.train),
        test_rows=len(fitted.split.test),
        fit_seconds=fitted.seconds,
        score_seconds=score_seconds,
        peak_memory_bytes=memory.bytes,
        progress=meter.points(),
        warnings=texts_of(caught, problems),
    )
    (call.out / names.STEP_RESULT).write_text(result.model_dump_json(), encoding="utf-8")
    report(1.0, "done")
    return result


def versions() -> dict[str, str]:
    """What a model made by this process depends on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("scikit-learn", "numpy", "scipy", "skops")},
        "mlops": __version__,
    }


def weight_parameter(estimator: Any) -> str:
    """The parameter of `fit` that hands sample weights to what predicts: sample_weight, clf__sample_weight."""
    prefix, inner = layers(estimator)[-1]
    # Searches and the like hand on whatever their `fit` is given to the estimator that they hold.
    while hasattr(inner, "estimator") and not has_fit_parameter(inner, "sample_weight"):
        below, inner = layers(inner.estimator)[-1]
        prefix += below
    return f"{prefix}sample_weight"


def _split(task: StepTask, table: Table) -> splits.Split:
    kept = splits.holdout(task.plan, table.keys)
    return kept if task.fold is None else splits.fold(task.plan, table.keys, kept.train, task.fold)


def _fit(plan: TrainingPlan, table: Table, split: splits.Split, meter: Meter) -> _Fitted:
    model = build(plan.estimator, seed=plan.seed)
    features, target = table.take(split.train), table.target[split.train]
    classes = 0
    if plan.task is Task.CLASSIFICATION:
        classes = len(np.unique(target))
        if classes < 2:
            raise DataInvalid(
                f"all {len(target)} training rows are of one class, {str(target[0])!r}",
                hint="Check the target column, or use the splitter 'stratified'.",
            )
    params = {} if table.weights is None else {weight_parameter(model): table.weights[split.train]}
    # Only now: building the estimator has loaded the libraries that bring thread pools.
    with threadpool_limits(plan.resources.cpus), observe(model, meter, classes=classes) as observed:
        started = time.perf_counter()
        model.fit(features, target, **params, **observed.fit_params)
        seconds = time.perf_counter() - started
    return _Fitted(model=model, table=table, split=split, seconds=seconds)


def _judge(plan: TrainingPlan, fitted: _Fitted, report: Report) -> tuple[Scored | None, float]:
    test, table = fitted.split.test, fitted.table
    if not len(test):
        return None, 0.0
    report(_FITTED, "scoring")
    started = time.perf_counter()
    with threadpool_limits(plan.resources.cpus):
        scored = score(
            fitted.model,
            table.take(test),
            table.target[test],
            rows=table.rows[test],
            scoring=plan.scoring,
            task=plan.task,
        )
    return scored, time.perf_counter() - started


def _leave_model(
    plan: TrainingPlan, fitted: _Fitted, out: Path, score_seconds: float, report: Report
) -> tuple[str, ...]:
    """Writes the model and what belongs to it; gives remarks for the report."""
    report(_FITTED, "storing the model")
    path = out / names.STEP_MODEL
    trusted = modelfile.save(fitted.model, path)
    notes = ModelNotes(trusted_types=trusted, versions=versions(), size_bytes=path.stat().st_size)
    (out / names.STEP_NOTES).write_text(notes.model_dump_json(), encoding="utf-8")
    (out / names.STEP_EXAMPLE).write_text(_example(fitted.table.features), encoding="utf-8")
    card = card_of(plan, fitted.model, fitted.table.features, size_bytes=notes.size_bytes)
    (out / names.CARD_FILE).write_text(card.model_dump_json(), encoding="utf-8")
    report(_FITTED, "feature importances")
    found = _importances(plan, fitted, score_seconds)
    (out / names.STEP_IMPORTANCES).write_text(found.model_dump_json(), encoding="utf-8")
    return (found.remark,) if found.remark else ()


def _importances(plan: TrainingPlan, fitted: _Fitted, score_seconds: float) -> importances.Importances:
    test, table = fitted.split.test, fitted.table
    impurity = importances.by_impurity(fitted.model, [str(name) for name in table.features.columns])
    if not len(test) or not plan.scoring:
        return impurity
    budget = min(max(fitted.seconds * IMPORTANCES_SHARE, MIN_IMPORTANCES_SECONDS), MAX_IMPORTANCES_SECONDS)
    try:
        with threadpool_limits(plan.resources.cpus):
            found = importances.by_permutation(
                fitted.model,
                table.take(test),
                table.target[test],
                scorer=plan.scoring[0],
                seed=plan.seed,
                seconds_a_row=score_seconds / len(test),
                budget_seconds=budget,
            )
    except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
        # The main scorer cannot judge these rows (a class may be missing): that is no reason to lose the model.
        found = importances.Importances(remark=f"no permutation importances: {bounded(str(error), MAX_WARNING)}")
    return found if found.kind else impurity.model_copy(update={"remark": found.remark})


def _example(features: pd.DataFrame) -> str:
    """The first rows as pandas' split-oriented JSON, which MLflow reads."""
    text = features.head(EXAMPLE_ROWS).reset_index(drop=True).to_json(orient="split", double_precision=15)
    return str(text)
