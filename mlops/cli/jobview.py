"""A job, its results and its numbers, as tables."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.text import Text

from mlops.cli import humane
from mlops.cli.batchview import batch_facts, drift_table, result_facts, scores_table
from mlops.cli.table import facts_table, rows_table, state_text
from mlops.client.handle import JobMetrics, metrics_of
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.job import Job, Validated
from mlops.jobs.training import TrainingPlan

# Features that are shown in a list of importances or columns.
MAX_FEATURES = 10


def job_facts(job: Job) -> Group:
    """Everything that is known of a job."""
    failure = job.failure
    facts = facts_table(
        [
            ("Job", job.id),
            ("Name", job.name),
            ("State", state_text(job.state)),
            ("Owner", job.owner),
            ("Labels", humane.pairs(job.labels)),
            ("Created", humane.ago(job.created_at)),
            ("Took", humane.duration(job.finished_at - job.created_at) if job.finished_at else ""),
            ("Attempt", str(job.attempt) if job.attempt > 1 else ""),
            *_asked(job),
            ("Failed in", failure.step if failure else ""),
            ("Failure", _failure_text(job)),
            ("Try", failure.hint if failure else ""),
        ]
    )
    parts: list[RenderableType] = [facts]
    if job.steps:
        rows = [
            (
                step.step,
                state_text(step.state),
                "" if step.fraction is None else f"{step.fraction:.0%}",
                str(step.attempt),
                humane.progress(step.message, step.values),
            )
            for step in job.steps
        ]
        parts += [Text(""), rows_table(("step", "state", "done>", "attempt>", ""), rows)]
    if job.result or job.batch_result:
        parts += [Text(""), outcome_facts(job)]
    return Group(*parts)


def outcome_facts(job: Job) -> RenderableType:
    """What a job that succeeded ended with."""
    if job.batch_result is not None:
        return result_facts(job.batch_result)
    result = job.result
    if result is None:
        return Text("")
    report = result.report
    model = f"{result.model_name}, version {result.model_version}" if result.model_name else "not registered"
    facts = facts_table(
        [
            ("Model", model),
            ("Model URI", result.model_uri),
            ("MLflow run", result.run_id),
            (
                "Fit",
                f"{humane.duration(report.fit_seconds)} ({humane.duration(report.total_fit_seconds)} with the folds)",
            ),
            ("Peak memory", humane.size(report.peak_memory_bytes)),
            ("Model size", humane.size(report.model_bytes)),
            ("Warnings", "; ".join(report.warnings)),
        ]
    )
    parts: list[RenderableType] = [metrics_table(metrics_of(job)), Text("")]
    if report.importances:
        top = sorted(report.importances, key=lambda item: -abs(item.importance))[:MAX_FEATURES]
        rows = [(item.feature, humane.number(item.importance)) for item in top]
        parts += [rows_table(("feature", f"{report.importance_kind} importance>"), rows), Text("")]
    return Group(*parts, facts)


def metrics_table(metrics: JobMetrics) -> RenderableType:
    """A job's numbers: over the folds and on the hold-out rows, of a batch, or of its steps while it runs."""
    folds = {summary.name: summary for summary in metrics.cross_validation}
    scorers = list(dict.fromkeys([*folds, *metrics.holdout]))
    if scorers:
        rows = [
            (
                name,
                humane.number(metrics.holdout.get(name)),
                humane.number(folds[name].mean) if name in folds else "",
                humane.number(folds[name].deviation) if name in folds else "",
            )
            for name in scorers
        ]
        return rows_table(("metric", "hold-out>", "folds' mean>", "deviation>"), rows)
    if metrics.scores or metrics.drift:
        parts: list[RenderableType] = [scores_table(metrics.scores)] if metrics.scores else []
        parts += [Text("")] if metrics.scores and metrics.drift else []
        return Group(*parts, *([drift_table(metrics.drift)] if metrics.drift else []))
    steps = [
        (step, name, humane.number(value)) for step, values in metrics.steps.items() for name, value in values.items()
    ]
    return rows_table(("step", "metric", "value>"), steps)


def plan_facts(validated: Validated) -> Group:
    """The answer of a dry run."""
    plan = validated.plan
    facts = facts_table([("Would run", plan.name), *_plan_facts(plan), ("Steps", ", ".join(validated.steps))])
    warnings = [Text(f"Warning: {warning}", style="yellow") for warning in validated.warnings]
    return Group(facts, *warnings)


def _asked(job: Job) -> Iterable[tuple[str, str]]:
    if job.plan is not None:
        return _plan_facts(job.plan)
    if job.batch_plan is not None:
        return batch_facts(job.batch_plan)
    return [("Dataset", job.dataset_id), ("Model", job.model_name or "")]


def _plan_facts(plan: TrainingPlan) -> Iterable[tuple[str, str]]:
    judged = [f"{plan.folds} folds" if plan.folds else "", f"{plan.holdout_fraction:.0%} kept apart"]
    kept = [text for text in judged if text and not text.startswith("0%")]
    features = [column.name for column in plan.features]
    more = f" and {len(features) - MAX_FEATURES} more" if len(features) > MAX_FEATURES else ""
    return [
        ("Dataset", f"{plan.dataset_name} ({plan.dataset_id}, {humane.number(plan.dataset_rows)} rows)"),
        ("Target", f"{plan.target.name} ({plan.task})"),
        ("Features", ", ".join(features[:MAX_FEATURES]) + more),
        ("Estimator", estimator_text(plan.estimator)),
        ("Judged by", f"{', '.join(kept) or 'nothing'} ({plan.splitter})"),
        ("Scoring", ", ".join(plan.scoring)),
        ("Model", plan.model_name or "not registered"),
        (
            "Each step gets",
            f"{plan.resources.cpus} {'core' if plan.resources.cpus == 1 else 'cores'}, {humane.size(plan.resources.memory_bytes)}",
        ),
        ("Time limit", humane.duration(plan.time_limit)),
    ]


def estimator_text(spec: EstimatorSpec) -> str:
    """The estimator as Python would write it: SVC(C=2.0)."""
    params = ", ".join(f"{name}={_value_text(value)}" for name, value in spec.params.items())
    return f"{spec.class_name}({params})"


def _value_text(value: ParamValue) -> str:
    found = getattr(value, value.kind)
    if value.object is not None:
        return estimator_text(value.object)
    if value.list is not None:
        return "[" + ", ".join(_value_text(item) for item in value.list.items) + "]"
    if value.tuple is not None:
        items = [_value_text(item) for item in value.tuple.items]
        return f"({items[0]},)" if len(items) == 1 else "(" + ", ".join(items) + ")"
    if value.mapping is not None:
        entries = (f"{_value_text(entry.key)}: {_value_text(entry.value)}" for entry in value.mapping.entries)
        return "{" + ", ".join(entries) + "}"
    if value.none:
        return "None"
    return str(found).rpartition(".")[2] if value.function is not None else repr(found)


def _failure_text(job: Job) -> str:
    if job.failure is None:
        return ""
    kind = job.failure.error_class or job.failure.reason
    return f"{kind}: {job.failure.message}"
