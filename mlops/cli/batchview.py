"""A batch inference, its result and its drift, as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mlops.cli import humane
from mlops.cli.table import facts_table, rows_table
from mlops.jobs.inference import BatchInferencePlan, BatchResult, FeatureDrift, OnBadRow, ValidatedBatch

# Features that are shown in the table of drift.
MAX_FEATURES = 10
# As the population stability index is read (Siddiqi 2006).
SLIGHT, LARGE = 0.1, 0.25
_STYLES = {"stable": "green", "slight": "yellow", "large": "red"}


def plan_facts(validated: ValidatedBatch) -> Group:
    """The answer of a dry run."""
    plan = validated.plan
    shards = "known once the input is read" if validated.shards is None else humane.number(validated.shards)
    facts = facts_table([("Would run", plan.name), *batch_facts(plan), ("Shards", shards)])
    return Group(facts, *(Text(f"Warning: {warning}", style="yellow") for warning in validated.warnings))


def batch_facts(plan: BatchInferencePlan) -> Iterable[tuple[str, str]]:
    """What a batch inference was resolved to."""
    alias = f" ({plan.model_alias})" if plan.model_alias else ""
    rows = "" if plan.rows is None else f"{humane.number(plan.rows)} rows"
    where = f"{plan.dataset_name} ({', '.join(text for text in (plan.dataset_id, rows) if text)})"
    rejects = "" if plan.max_rejects is None else f", at most {humane.number(plan.max_rejects)}"
    cores = "core" if plan.resources.cpus == 1 else "cores"
    return [
        ("Model", f"{plan.model_name}, version {plan.model_version}{alias}"),
        ("Input", plan.uri or where),
        ("Outputs", ", ".join(plan.outputs)),
        ("Carried", ", ".join(plan.carry[:MAX_FEATURES]) + (" …" if len(plan.carry) > MAX_FEATURES else "")),
        ("Format", str(plan.output_format)),
        ("Rows a shard", humane.number(plan.rows_per_shard)),
        ("A bad row", "fails the job" if plan.on_bad_row is OnBadRow.FAIL else f"is set apart{rejects}"),
        ("Scored against", plan.target or ""),
        ("Each shard gets", f"{plan.resources.cpus} {cores}, {humane.size(plan.resources.memory_bytes)}"),
        ("Time limit", humane.duration(plan.time_limit)),
    ]


def result_facts(result: BatchResult) -> RenderableType:
    """What a batch inference ended with."""
    report = result.report
    files, rejects = report.files, report.rejects
    size = humane.size(sum(file.size_bytes for file in files))
    rate = report.rows / report.predict_seconds if report.predict_seconds > 0 else None
    facts = facts_table(
        [
            ("Model", f"{result.model_name}, version {result.model_version}"),
            ("Rows", humane.number(report.rows)),
            ("Rejected", f"{report.rejected_rows:,} ({_count(len(rejects), 'file')})" if report.rejected_rows else ""),
            ("Files", f"{_count(len(files), 'file')}, {size}"),
            ("Columns", ", ".join(sorted(report.columns))),
            ("URI", result.uri),
            ("Engine", report.engine),
            (
                "Computing",
                humane.duration(report.predict_seconds) + (f", {rate:,.0f} rows/s a core" if rate else ""),
            ),
            ("Peak memory", humane.size(report.peak_memory_bytes) if report.peak_memory_bytes else ""),
            ("Warnings", "; ".join(report.warnings)),
        ]
    )
    parts: list[RenderableType] = []
    if report.scores:
        parts += [scores_table(report.scores, rows=report.scored_rows), Text("")]
    if report.drift:
        parts += [drift_table(report.drift), Text("")]
    return Group(*parts, facts)


def scores_table(scores: Mapping[str, float], *, rows: int | None = None) -> Table:
    """Metrics against the target column."""
    title = "value>" if rows is None else f"on {rows:,} rows>"
    return rows_table(("metric", title), [(name, humane.number(value)) for name, value in sorted(scores.items())])


def drift_table(drift: Sequence[FeatureDrift]) -> RenderableType:
    """How far each feature has moved from the training data, the farthest first."""
    worst = sorted(drift, key=lambda feature: -math.inf if math.isnan(feature.psi) else feature.psi, reverse=True)
    rows = [
        (
            feature.feature,
            "" if math.isnan(feature.psi) else f"{feature.psi:.3f}",
            Text(drift_word(feature.psi), style=_STYLES.get(drift_word(feature.psi), "dim")),
            f"{feature.missing_share:.1%}",
            f"{feature.reference_missing_share:.1%}",
            f"{feature.unseen_share:.1%}",
        )
        for feature in worst[:MAX_FEATURES]
    ]
    table = rows_table(("feature", "PSI>", "drift", "missing>", "in training>", "never seen>"), rows)
    left = len(worst) - len(rows)
    return Group(table, Text(f"and {left} more, which moved less", style="dim")) if left else table


def drift_word(psi: float) -> str:
    """What a population stability index means: stable, slight, large; not measured for NaN."""
    if math.isnan(psi):
        return "not measured"
    return "large" if psi >= LARGE else "slight" if psi >= SLIGHT else "stable"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
