"""What a target column can be predicted as."""

from __future__ import annotations

from collections.abc import Mapping

from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.training import Task

# A classifier with more classes than this is a mistake far more often than a wish.
MAX_CLASSES = 1000
# Whole numbers with at most so many different values are taken for classes where nobody says.
MAX_INFERRED_CLASSES = 20


def inferred_task(target: Column) -> Task:
    """Classification for categories, booleans, texts and few whole numbers; regression for other numbers."""
    if target.kind in (ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN, ColumnKind.TEXT):
        return Task.CLASSIFICATION
    few = target.distinct_is_exact and target.distinct_count <= MAX_INFERRED_CLASSES
    return Task.CLASSIFICATION if few and is_integral(target) else Task.REGRESSION


def is_integral(column: Column) -> bool:
    """Whether a numeric column holds whole numbers only, as far as its summary tells."""
    if column.kind is not ColumnKind.NUMERIC:
        return False
    if column.arrow_type.startswith(("int", "uint")):
        return True
    counts = class_counts(column)
    return counts is not None and all(_is_whole(value) for value in counts)


def class_counts(target: Column) -> Mapping[str, int] | None:
    """Rows of each class, or None where the summary does not list them all."""
    if not target.distinct_is_exact or not target.top_values or len(target.top_values) != target.distinct_count:
        return None
    return {one.value: one.count for one in target.top_values}


def target_problem(target: Column, task: Task, *, rows: int) -> str | None:
    """Why a column cannot be the target of a task, None where it can."""
    usable = rows - target.null_count
    if usable <= 0:
        return f"{target.name!r} has no values"
    if target.distinct_is_exact and target.distinct_count < 2:
        return f"{target.name!r} has the same value in every row, so there is nothing to learn"
    if target.kind is ColumnKind.DATETIME:
        return f"{target.name!r} is a datetime; a target is a number or a class"
    if task is Task.REGRESSION:
        if target.kind is ColumnKind.NUMERIC:
            return None
        return f"{target.name!r} is {target.kind.value}, but a regression needs a numeric target"
    if target.kind is ColumnKind.NUMERIC and not is_integral(target):
        return f"{target.name!r} holds numbers that are not whole, so it has no classes; use a regressor"
    if target.distinct_count > MAX_CLASSES:
        return f"{target.name!r} has {target.distinct_count:,} different values, more than the {MAX_CLASSES:,} classes allowed"
    if target.distinct_count * 2 > usable:
        return f"{target.name!r} has {target.distinct_count:,} different values in {usable:,} rows; classes need rows to learn from"
    return None


def _is_whole(text: str) -> bool:
    try:
        return float(text).is_integer()
    except ValueError:
        return False
