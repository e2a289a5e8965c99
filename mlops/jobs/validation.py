"""Resolves what a data scientist asked for, against the dataset, to a plan that leaves nothing to choose."""

from __future__ import annotations

import hashlib
import json
import math

from mlops import names
from mlops.errors import InvalidRequest
from mlops.jobs.advice import warnings_of
from mlops.jobs.allowlist import nearest
from mlops.jobs.catalog import check_estimator
from mlops.jobs.dataset import Column, ColumnKind, Dataset
from mlops.jobs.defaults import default_estimator
from mlops.jobs.estimator import EstimatorSpec
from mlops.jobs.labels import check_labels
from mlops.jobs.limits import Limits
from mlops.jobs.scoring import check_scoring, default_scoring
from mlops.jobs.splitting import check_splits
from mlops.jobs.targets import inferred_task, target_problem
from mlops.jobs.training import Splitter, Task, TrainingPlan, TrainingSpec
from mlops.jobs.traits import accepts_sample_weight, gives, kind_of, predictor
from mlops.jobs.value import Value

__all__ = ["DEFAULT_HOLDOUT", "Limits", "estimator_name", "fingerprint", "resolve", "warnings_of"]

DEFAULT_HOLDOUT = 0.2
# Enough for a person.
MAX_VIOLATIONS = 50
HINTED_VIOLATIONS = 10
HINTED_COLUMNS = 2000
_TASK_OF_KIND = {"classifier": Task.CLASSIFICATION, "regressor": Task.REGRESSION}


def resolve(spec: TrainingSpec, dataset: Dataset, limits: Limits) -> TrainingPlan:
    """The plan of a training job.

    Raises one InvalidRequest that carries everything that is wrong, by field path (`spec.target`).
    """
    resolution = _Resolution(spec, dataset, limits)
    plan = resolution.plan()
    violations = resolution.violations
    if violations or plan is None:
        path, problem = next(iter(violations.items()))
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        raise InvalidRequest(f"{path}: {problem}{more}", violations=violations)
    return plan


def fingerprint(request: Value) -> str:
    """SHA-256 of the request's canonical JSON, in hex: equal for equal requests, whatever the order of their maps."""
    canonical = json.dumps(request.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


class _Resolution:
    """One spec against one dataset. What is wrong gathers in `violations`."""

    def __init__(self, spec: TrainingSpec, dataset: Dataset, limits: Limits) -> None:
        self.spec = spec
        self.dataset = dataset
        self.limits = limits
        self.columns = {column.name: column for column in dataset.profile.columns}
        self.violations: dict[str, str] = {}

    def wrong(self, field: str, problem: str) -> None:
        self.violations.setdefault(f"spec.{field}", problem)

    def plan(self) -> TrainingPlan | None:
        """The plan, or None where something is so wrong that there is none."""
        spec = self.spec
        self.check_names()
        self.check_resources()
        target = self.column(spec.target, "target")
        features = self.features()
        self.check_roles()
        estimator_fits = self.check_estimator()
        if target is None or not estimator_fits:
            return None
        task = self.task(target)
        problem = target_problem(target, task, rows=self.dataset.profile.rows)
        if problem is not None:
            self.wrong("target", problem)
        estimator = spec.estimator or default_estimator(features, task, rows=self.dataset.profile.rows)
        self.check_weight(estimator)
        splitter = self.splitter(task)
        folds, holdout = spec.validation.folds, self.holdout()
        self.violations |= check_splits(
            splitter,
            folds=folds,
            holdout=holdout,
            target=target,
            group=self.columns.get(spec.group_column or ""),
            rows=self.dataset.profile.rows,
            field="spec.validation",
        )
        self.violations |= check_scoring(
            spec.scoring, task=task, target=target, estimator=estimator, field="spec.scoring"
        )
        return TrainingPlan(
            name=spec.name or spec.model_name or estimator_name(estimator),
            dataset_id=self.dataset.id,
            dataset_name=self.dataset.name,
            dataset_sha256=self.dataset.sha256,
            dataset_rows=self.dataset.profile.rows,
            target=target,
            features=features,
            weight_column=spec.weight_column,
            group_column=spec.group_column,
            time_column=spec.time_column,
            estimator=estimator,
            task=task,
            folds=folds,
            holdout_fraction=holdout,
            splitter=splitter,
            scoring=spec.scoring or default_scoring(task, target, estimator),
            seed=spec.seed,
            model_name=spec.model_name,
            resources=spec.resources,
            time_limit=spec.time_limit,
            max_attempts=spec.max_attempts,
            labels=spec.labels,
        )

    # --- names, labels, resources ------------------------------------------------------------------

    def check_names(self) -> None:
        model = self.spec.model_name
        if model is not None and not names.MODEL_NAME.fullmatch(model):
            self.wrong(
                "model_name",
                f"{model[:140]!r} is no model name: 1 to 128 letters, digits, dots, hyphens, underscores and spaces, "
                "beginning and ending with a letter or a digit",
            )
        name = self.spec.name
        if name is not None and (not name.strip() or not name.isprintable()):
            self.wrong("name", f"{name!r} is no name: it must have visible characters, and no control characters")
        self.violations |= check_labels(self.spec.labels, field="spec.labels")

    def check_resources(self) -> None:
        asked, limits = self.spec.resources, self.limits
        if asked.cpus > limits.max_cpus:
            self.wrong("resources.cpus", f"is {asked.cpus}, more than {limits.max_cpus} ({limits.cpus_limit})")
        if asked.memory_bytes > limits.max_memory_bytes:
            self.wrong(
                "resources.memory_bytes",
                f"is {asked.memory_bytes:,}, more than {limits.max_memory_bytes:,} ({limits.memory_limit})",
            )

    # --- columns -----------------------------------------------------------------------------------

    def column(self, name: str, field: str) -> Column | None:
        found = self.columns.get(name)
        if found is None:
            # Looking for a near name is slow with thousands of columns and of mistakes.
            near = len(self.violations) < HINTED_VIOLATIONS and len(self.columns) <= HINTED_COLUMNS
            hint = nearest(name, self.columns) if near else ""
            self.wrong(field, f"the dataset {self.dataset.name!r} has no column {name[:200]!r}{hint}")
        return found

    def roles(self) -> dict[str, str | None]:
        """Each field that names one column, and the column."""
        spec = self.spec
        return {
            "target": spec.target,
            "weight_column": spec.weight_column,
            "group_column": spec.group_column,
            "time_column": spec.time_column,
        }

    def features(self) -> tuple[Column, ...]:
        taken = {name: field for field, name in reversed(self.roles().items()) if name is not None}
        if not self.spec.features:
            found = tuple(column for column in self.dataset.profile.columns if column.name not in taken)
            if not found:
                self.wrong("features", "no column is left to be a feature")
            return found
        chosen: dict[str, Column] = {}
        for index, name in enumerate(self.spec.features):
            if len(self.violations) >= MAX_VIOLATIONS:
                break
            field = f"features[{index}]"
            column = self.column(name, field)
            if name in taken:
                self.wrong(field, f"{name!r} is the {taken[name].replace('_', ' ')} already")
            elif name in chosen:
                self.wrong(field, f"{name!r} is named twice")
            elif column is not None:
                chosen[name] = column
        return tuple(chosen.values())

    def check_roles(self) -> None:
        seen: dict[str, str] = {}
        for field, name in self.roles().items():
            if name is None:
                continue
            if name in seen:
                self.wrong(field, f"{name!r} is the {seen[name].replace('_', ' ')} already")
            seen.setdefault(name, field)
            if field == "target":
                continue
            column = self.column(name, field)
            # A missing group is a group of its own.
            if column is not None and column.null_count and field != "group_column":
                self.wrong(field, f"{name!r} has {column.null_count:,} missing values; each row needs one")
        time = self.columns.get(self.spec.time_column or "")
        if time is not None and time.kind not in (ColumnKind.DATETIME, ColumnKind.NUMERIC):
            self.wrong("time_column", f"{time.name!r} is {time.kind.value}; rows are ordered by a datetime or a number")

    def check_weight(self, estimator: EstimatorSpec) -> None:
        weight = self.columns.get(self.spec.weight_column or "")
        if weight is None:
            return
        if weight.kind is not ColumnKind.NUMERIC:
            self.wrong("weight_column", f"{weight.name!r} is {weight.kind.value}; weights are numbers")
        elif weight.minimum is not None and weight.minimum < 0:
            self.wrong("weight_column", f"{weight.name!r} goes down to {weight.minimum:g}; weights are 0 or more")
        elif weight.maximum is not None and weight.maximum == 0:
            self.wrong("weight_column", f"{weight.name!r} is 0 in every row")
        elif not accepts_sample_weight(estimator):
            self.wrong("weight_column", f"{estimator_name(estimator)} takes no sample weights")

    # --- estimator and task ------------------------------------------------------------------------

    def check_estimator(self) -> bool:
        """Whether there is an estimator to go on with."""
        estimator = self.spec.estimator
        if estimator is None:
            return True
        violations = check_estimator(estimator, field="spec.estimator")
        self.violations |= violations
        if violations:
            return False
        kind = kind_of(estimator)
        if kind not in _TASK_OF_KIND or not gives(estimator, "predict"):
            what = "nothing that predicts" if kind == "unknown" else f"a {kind.replace('_', ' ')}"
            self.wrong("estimator", f"{estimator_name(estimator)} is {what}; a job trains a classifier or a regressor")
            return False
        return True

    def task(self, target: Column) -> Task:
        estimator = self.spec.estimator
        able = None if estimator is None else _TASK_OF_KIND[kind_of(estimator)]
        if estimator is not None and self.spec.task is not None and able is not self.spec.task:
            self.wrong("task", f"is {self.spec.task.value}, but {estimator_name(estimator)} is for {able}")
        return able or self.spec.task or inferred_task(target)

    # --- validation --------------------------------------------------------------------------------

    def holdout(self) -> float:
        asked = self.spec.validation
        if asked.holdout_fraction is not None and math.isfinite(asked.holdout_fraction):
            return asked.holdout_fraction
        return 0.0 if asked.folds else DEFAULT_HOLDOUT

    def splitter(self, task: Task) -> Splitter:
        spec = self.spec
        asked = spec.validation.splitter
        if asked is Splitter.GROUPED and spec.group_column is None:
            self.wrong("group_column", "is needed to keep the rows of a group together (splitter grouped)")
        if asked is Splitter.TIME_SERIES and spec.time_column is None:
            self.wrong("time_column", "is needed to order the rows (splitter time_series)")
        if asked is Splitter.STRATIFIED and task is Task.REGRESSION:
            self.wrong("validation.splitter", "is stratified, which needs classes; for a regression choose shuffled")
        if asked is not None:
            return asked
        if spec.group_column is not None and spec.time_column is not None:
            self.wrong("validation.splitter", "must say which to go by, since there are a group and a time column")
        if spec.group_column is not None:
            return Splitter.GROUPED
        if spec.time_column is not None:
            return Splitter.TIME_SERIES
        return Splitter.STRATIFIED if task is Task.CLASSIFICATION else Splitter.SHUFFLED


def estimator_name(spec: EstimatorSpec) -> str:
    """What an estimator is called: its class, and for one that holds another, the class that predicts."""
    inner = predictor(spec)
    if inner is None or inner is spec:
        return spec.class_name
    return f"{spec.class_name}({inner.class_name})"
