"""Resolves a batch inference against its model and its dataset, to a plan that leaves nothing to choose."""

from __future__ import annotations

from dataclasses import dataclass

from mlops.errors import InvalidRequest
from mlops.jobs.allowlist import nearest
from mlops.jobs.card import ModelCard, PredictMethod
from mlops.jobs.dataset import Column, ColumnKind, Dataset
from mlops.jobs.inference import ALL_COLUMNS, MAX_SHARDS, BatchInferencePlan, BatchInferenceSpec, OnBadRow, used_columns
from mlops.jobs.inputs import fit_columns
from mlops.jobs.labels import check_labels
from mlops.jobs.limits import Limits
from mlops.jobs.model import ModelVersion


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A plan, and what is allowed but probably not meant."""

    plan: BatchInferencePlan
    warnings: tuple[str, ...] = ()


def check_batch(spec: BatchInferenceSpec) -> None:
    """What can be said of a spec by itself. Raises one InvalidRequest with every violation by its field's path."""
    _refuse(_of_spec(spec))


def resolve_batch(
    spec: BatchInferenceSpec,
    *,
    version: ModelVersion,
    model_id: str,
    card: ModelCard,
    dataset: Dataset | None,
    limits: Limits,
    max_bytes: int,
) -> Resolved:
    """The plan of a batch job. `dataset` is None for a URI, whose columns are looked at before any work is done.

    Raises one InvalidRequest that carries everything that is wrong, by field path (`spec.carry[0]`).
    """
    violations = _of_spec(spec)
    violations |= _of_limits(spec, limits)
    for index, method in enumerate(spec.outputs):
        if method not in card.methods:
            able = ", ".join(card.methods)
            violations[f"spec.outputs[{index}]"] = f"the model has no {method}; it has {able}"
    warnings: tuple[str, ...] = ()
    if dataset is not None:
        wrong, warnings = _of_dataset(spec, card, dataset)
        violations |= wrong
    _refuse(violations)
    return Resolved(
        plan=BatchInferencePlan(
            name=spec.name or spec.model,
            model_name=version.model_name,
            model_version=version.version,
            model_alias=spec.alias,
            model_id=model_id,
            dataset_id=dataset.id if dataset is not None else None,
            dataset_name=dataset.name if dataset is not None else "",
            uri=spec.uri,
            read_options=spec.read_options,
            rows=dataset.profile.rows if dataset is not None else None,
            max_bytes=max_bytes,
            outputs=spec.outputs or (PredictMethod.PREDICT,),
            carry=spec.carry,
            output_format=spec.output_format,
            rows_per_shard=spec.rows_per_shard,
            on_bad_row=spec.on_bad_row,
            max_rejects=spec.max_rejects,
            target=spec.target,
            resources=spec.resources,
            time_limit=spec.time_limit,
            max_attempts=spec.max_attempts,
            labels=spec.labels,
        ),
        warnings=warnings,
    )


def _refuse(violations: dict[str, str]) -> None:
    if violations:
        path, problem = next(iter(violations.items()))
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidRequest(f"{path}: {problem}{more}", violations=violations)


def _of_spec(spec: BatchInferenceSpec) -> dict[str, str]:
    found = check_labels(spec.labels, field="spec.labels")
    if spec.version is not None and spec.alias is not None:
        found["spec.alias"] = "is given beside a version; give one of them"
    if spec.dataset is None and spec.uri is None:
        found["spec.dataset"] = "is required, or a uri"
    if spec.dataset is not None and spec.uri is not None:
        found["spec.uri"] = "is given beside a dataset; give one of them"
    if spec.name is not None and (not spec.name.strip() or not spec.name.isprintable()):
        found["spec.name"] = f"{spec.name!r} is no name: it must have visible characters, and no control characters"
    if len(set(spec.outputs)) < len(spec.outputs):
        found["spec.outputs"] = "names an output twice"
    if len(set(spec.carry)) < len(spec.carry):
        found["spec.carry"] = "names a column twice"
    if spec.max_rejects is not None and spec.on_bad_row is not OnBadRow.REJECT:
        found["spec.max_rejects"] = "says how many rows may be rejected; it goes with on_bad_row REJECT"
    return found


def _of_limits(spec: BatchInferenceSpec, limits: Limits) -> dict[str, str]:
    found: dict[str, str] = {}
    asked = spec.resources
    if asked.cpus > limits.max_cpus:
        found["spec.resources.cpus"] = f"is {asked.cpus}, more than {limits.max_cpus} ({limits.cpus_limit})"
    if asked.memory_bytes > limits.max_memory_bytes:
        found["spec.resources.memory_bytes"] = (
            f"is {asked.memory_bytes:,}, more than {limits.max_memory_bytes:,} ({limits.memory_limit})"
        )
    return found


def _of_dataset(spec: BatchInferenceSpec, card: ModelCard, dataset: Dataset) -> tuple[dict[str, str], tuple[str, ...]]:
    found: dict[str, str] = {}
    rows, columns = dataset.profile.rows, {column.name: column for column in dataset.profile.columns}
    fit = fit_columns(card.features, {name: _kind(column, rows) for name, column in columns.items()})
    for name, problem in fit.problems.items():
        found[f"spec.dataset[{name[:80]}]"] = problem
    for index, name in enumerate(spec.carry):
        if name not in columns and name != ALL_COLUMNS:
            found[f"spec.carry[{index}]"] = (
                f"the dataset {dataset.name!r} has no column {name[:200]!r}{nearest(name, columns)}"
            )
    if spec.target is not None and spec.target not in columns:
        found["spec.target"] = (
            f"the dataset {dataset.name!r} has no column {spec.target[:200]!r}{nearest(spec.target, columns)}"
        )
    if spec.rows_per_shard is not None and rows > spec.rows_per_shard * MAX_SHARDS:
        found["spec.rows_per_shard"] = (
            f"cuts {rows:,} rows into more than {MAX_SHARDS:,} shards; give at least {-(-rows // MAX_SHARDS):,}"
        )
    return found, fit.warnings(used=used_columns(spec, columns))


def _kind(column: Column, rows: int) -> ColumnKind | None:
    return None if column.null_count >= rows else column.kind
