"""What is allowed, but looks like a mistake."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlops.jobs.dataset import Column, ColumnKind, Dataset
from mlops.jobs.splitting import training_rows
from mlops.jobs.training import Splitter, TrainingPlan
from mlops.jobs.traits import takes_categories, takes_missing

MOSTLY_MISSING = 0.5
# Below so many rows, every value being different says little.
LEAST_ROWS_FOR_IDS = 50
_NAMED_AT_MOST = 5


def warnings_of(plan: TrainingPlan, dataset: Dataset) -> tuple[str, ...]:
    """Sentences for a person, in order of weight; empty where nothing stands out."""
    return (
        *_features_it_cannot_take(plan),
        *_suspicious_columns(plan.features, dataset.profile.rows),
        *_target_and_roles(plan),
        *_judging(plan),
    )


def _features_it_cannot_take(plan: TrainingPlan) -> Iterator[str]:
    name = plan.estimator.class_name
    words = [c.name for c in plan.features if c.kind in (ColumnKind.CATEGORICAL, ColumnKind.TEXT)]
    if words and takes_categories(plan.estimator) is False:
        yield f"{name} takes numbers only, but {_list(words)} hold texts: encode them in a ColumnTransformer"
    missing = [c.name for c in plan.features if c.null_count and c.kind is not ColumnKind.TEXT]
    if missing and takes_missing(plan.estimator) is False:
        yield f"{name} takes no missing values, but {_list(missing)} have some: put a SimpleImputer before it"


def _suspicious_columns(features: Sequence[Column], rows: int) -> Iterator[str]:
    ids = [column.name for column in features if _is_id_like(column, rows)]
    if ids:
        yield f"{_list(ids)} have a different value in (nearly) every row, like an id; a model learns nothing from that"
    mostly = [column.name for column in features if rows and column.null_count / rows > MOSTLY_MISSING]
    if mostly:
        yield f"{_list(mostly)} are missing in more than half of the rows"
    constant = [c.name for c in features if c.distinct_is_exact and c.distinct_count <= 1 and not c.null_count]
    if constant:
        yield f"{_list(constant)} have the same value in every row"


def _is_id_like(column: Column, rows: int) -> bool:
    whole = column.kind is ColumnKind.NUMERIC and column.arrow_type.startswith(("int", "uint"))
    values = rows - column.null_count
    if values < LEAST_ROWS_FOR_IDS or not (whole or column.kind is ColumnKind.CATEGORICAL):
        return False
    if column.distinct_count < 0.98 * values:
        return False
    if not whole or column.minimum is None or column.maximum is None:
        return True
    # Numbers drawn from a wide range differ too; numbered rows are dense.
    return column.maximum - column.minimum < 2 * values


def _target_and_roles(plan: TrainingPlan) -> Iterator[str]:
    missing = plan.target.null_count
    if missing:
        yield f"{missing:,} of {plan.dataset_rows:,} rows have no target {plan.target.name!r}, and are left out"
    if plan.group_column is not None and plan.splitter is not Splitter.GROUPED:
        yield f"{plan.group_column!r} is no feature, and the splitter {plan.splitter.value} does not use it either"
    if plan.time_column is not None and plan.splitter is not Splitter.TIME_SERIES:
        yield f"{plan.time_column!r} is no feature, and the splitter {plan.splitter.value} does not use it either"


def _judging(plan: TrainingPlan) -> Iterator[str]:
    if not plan.folds and not plan.holdout_fraction:
        yield "no rows are kept apart, so there will be no metrics: set folds or a hold-out fraction"
    rows = training_rows(plan.dataset_rows - plan.target.null_count, plan.holdout_fraction)
    if 0 < rows < 2 * len(plan.features):
        yield f"there are {len(plan.features):,} features to {rows:,} training rows; expect overfitting"


def _list(columns: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in columns[:_NAMED_AT_MOST])
    more = len(columns) - _NAMED_AT_MOST
    return f"{shown} and {more:,} more" if more > 0 else shown
