"""From the arguments of `client.train` to the spec that is submitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypedDict

from pydantic import ValidationError

from mlops import errors
from mlops.client.quantities import parse_bytes, parse_duration
from mlops.jobs.dataset import Dataset
from mlops.jobs.estimator import EstimatorSpec
from mlops.jobs.training import Splitter, Task, TrainingSpec


class TrainingOptions(TypedDict, total=False):
    """The optional arguments of `client.train`. What is left out is chosen by the platform (`client.validate` shows how)."""

    # What the job is called in lists; the model's or the estimator's name where it is left out.
    job_name: str | None
    # "classification" or "regression"; from the estimator or the target where it is left out.
    task: Task | str | None
    # The columns to learn from; every one that has no other role where it is left out.
    features: Sequence[str]
    weight_column: str | None
    group_column: str | None
    time_column: str | None
    # 0 for no cross-validation, else 2-50.
    folds: int
    # The fraction of rows kept apart; 0 for none. Left out: 0.2 without folds, none with them.
    holdout: float | None
    # "shuffled", "stratified", "grouped" or "time_series".
    splitter: Splitter | str | None
    # scikit-learn's scorer names; the first is the main one.
    scoring: str | Sequence[str]
    seed: int
    # Of each step of the job.
    cpus: int
    # Bytes, or a text such as "2GiB": of each step's process.
    memory: int | str
    # Seconds, a timedelta, or a text such as "30m": of each step, once it has its cores.
    time_limit: timedelta | float | str
    # How often a step is tried that failed for a passing reason.
    max_attempts: int
    labels: Mapping[str, str]


def training_spec(
    estimator: object | None,
    dataset: Dataset | str,
    *,
    target: str,
    name: str | None = None,
    job_name: str | None = None,
    task: Task | str | None = None,
    features: Sequence[str] = (),
    weight_column: str | None = None,
    group_column: str | None = None,
    time_column: str | None = None,
    folds: int = 0,
    holdout: float | None = None,
    splitter: Splitter | str | None = None,
    scoring: str | Sequence[str] = (),
    seed: int = 0,
    cpus: int | None = None,
    memory: int | str | None = None,
    time_limit: timedelta | float | str | None = None,
    max_attempts: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> TrainingSpec:
    """The spec that these arguments ask for. Raises InvalidRequest, naming each argument that breaks a rule."""
    resources: dict[str, Any] = {}
    if cpus is not None:
        resources["cpus"] = cpus
    if memory is not None:
        resources["memory_bytes"] = parse_bytes(memory, field="memory")
    plain: dict[str, Any] = {
        "dataset": dataset.id if isinstance(dataset, Dataset) else dataset,
        "target": target,
        "name": job_name,
        "estimator": _estimator(estimator),
        "task": task,
        "features": _texts(features),
        "weight_column": weight_column,
        "group_column": group_column,
        "time_column": time_column,
        "validation": {"folds": folds, "holdout_fraction": holdout, "splitter": splitter},
        "scoring": _texts(scoring),
        "seed": seed,
        "model_name": name,
        "resources": resources,
        "labels": dict(labels or {}),
    }
    if time_limit is not None:
        plain["time_limit"] = parse_duration(time_limit, field="time_limit")
    if max_attempts is not None:
        plain["max_attempts"] = max_attempts
    return checked_spec(plain)


# Fields of the spec whose argument has another name.
_ARGUMENTS = {
    "name": "job_name",
    "model_name": "name",
    "validation.folds": "folds",
    "validation.holdout_fraction": "holdout",
    "validation.splitter": "splitter",
    "resources.cpus": "cpus",
    "resources.memory_bytes": "memory",
}


def checked_spec(plain: Mapping[str, Any], *, as_arguments: bool = True) -> TrainingSpec:
    """The spec of plain values. InvalidRequest names the argument, or the field of the spec, that breaks a rule."""
    try:
        return TrainingSpec.model_validate(plain)
    except ValidationError as exc:
        violations: dict[str, str] = {}
        for problem in exc.errors(include_url=False, include_context=False):
            path = ".".join(str(part) for part in problem["loc"])
            field = _ARGUMENTS.get(path, path) if as_arguments else path
            given = problem["input"]
            shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
            violations[field] = problem["msg"].removeprefix("Value error, ") + shown
        listed = "; ".join(f"{field}: {problem}" for field, problem in violations.items())
        raise errors.InvalidRequest(f"invalid training: {listed}", violations=violations) from exc


def _estimator(estimator: object | None) -> EstimatorSpec | None:
    if estimator is None or isinstance(estimator, EstimatorSpec):
        return estimator
    from mlops.client.estimators import estimator_spec

    return estimator_spec(estimator)


def _texts(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
