"""What a training job leaves in its MLflow run: parameters, tags, metrics. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from mlops import names
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.report import StepResult, TrainingReport
from mlops.jobs.signature import signature_of
from mlops.jobs.training import StepOrder, TrainingPlan
from mlops.tracking.protocol import DatasetInput, Metric

# A table wider than this is named in the run, but its columns are not listed there.
MAX_LISTED_COLUMNS = 500


def params_of(plan: TrainingPlan) -> dict[str, str]:
    """The job's settings and the estimator's own, flat: `estimator.n_estimators`, `estimator.steps.1.1.C`."""
    params = {
        "estimator": plan.estimator.path,
        "task": plan.task.value,
        "target": plan.target.name,
        "features": str(len(plan.features)),
        "dataset": plan.dataset_name,
        "dataset_rows": str(plan.dataset_rows),
        "folds": str(plan.folds),
        "holdout_fraction": f"{plan.holdout_fraction:g}",
        "splitter": plan.splitter.value,
        "scoring": ", ".join(plan.scoring),
        "seed": str(plan.seed),
        "cpus": str(plan.resources.cpus),
    }
    params.update(_estimator_params("estimator", plan.estimator))
    return params


def tags_of(order: StepOrder, plan: TrainingPlan) -> dict[str, str]:
    """What links a run or a version to job, tenant, owner and data; the job's labels as they are."""
    return {
        **{f"label.{key}": value for key, value in plan.labels.items()},
        names.TAG_JOB: order.job_id,
        names.TAG_TENANT: order.tenant,
        names.TAG_OWNER: order.owner,
        names.TAG_DATASET: plan.dataset_id,
        names.TAG_DATASET_SHA256: plan.dataset_sha256,
        names.TAG_TASK: plan.task.value,
        names.TAG_ESTIMATOR: plan.estimator.path,
    }


def dataset_of(plan: TrainingPlan) -> DatasetInput:
    """The data, as the run's page shows it."""
    signature = signature_of(plan)
    columns = (*signature.inputs, *signature.outputs)
    return DatasetInput(
        dataset_id=plan.dataset_id,
        name=plan.dataset_name,
        sha256=plan.dataset_sha256,
        rows=plan.dataset_rows,
        columns=columns if len(columns) <= MAX_LISTED_COLUMNS else (),
    )


def metrics_of(report: TrainingReport, results: Mapping[str, StepResult], *, since: datetime) -> tuple[Metric, ...]:
    """Every number of the job. Times are derived from `since`, so that a retry logs the very same points.

    fold_X: step is the fold. cv_X_mean, cv_X_std. holdout_X. progress_X: step is the iteration of the final fit.
    """
    return tuple(
        Metric(name=name, value=value, step=step, timestamp=since + timedelta(milliseconds=step))
        for name, step, value in _numbers(report, results)
    )


def _numbers(report: TrainingReport, results: Mapping[str, StepResult]) -> Iterator[tuple[str, int, float]]:
    for summary in report.cross_validation:
        yield f"cv_{summary.name}_mean", 0, summary.mean
        yield f"cv_{summary.name}_std", 0, summary.deviation
        for fold, value in enumerate(summary.folds):
            yield f"fold_{summary.name}", fold, value
    for name, value in report.holdout.items():
        yield f"holdout_{name}", 0, value
    for point in results[names.FIT_STEP].progress:
        yield f"progress_{point.name}", point.step, point.value
    yield "fit_seconds", 0, report.fit_seconds
    yield "total_fit_seconds", 0, report.total_fit_seconds
    yield "peak_memory_bytes", 0, float(report.peak_memory_bytes)
    yield "model_bytes", 0, float(report.model_bytes)


def _estimator_params(prefix: str, spec: EstimatorSpec) -> Iterator[tuple[str, str]]:
    for name, value in spec.params.items():
        yield from _param(f"{prefix}.{name}", value)


def _param(name: str, value: ParamValue) -> Iterator[tuple[str, str]]:
    items = value.list or value.tuple
    if value.object is not None:
        yield name, value.object.path
        yield from _estimator_params(name, value.object)
    elif items is not None:
        for index, item in enumerate(items.items):
            yield from _param(f"{name}.{index}", item)
    elif value.mapping is not None:
        for entry in value.mapping.entries:
            yield from _param(f"{name}.{_text(entry.key)}", entry.value)
    else:
        yield name, _text(value)


def _text(value: ParamValue) -> str:
    return "None" if value.none else str(getattr(value, value.kind))
