"""Whether a dataset has the rows, classes and groups that a way of splitting needs."""

from __future__ import annotations

import math

from mlops.jobs.dataset import Column
from mlops.jobs.targets import class_counts
from mlops.jobs.training import Splitter

_INSTEAD = "; leave rare classes out, or choose the splitter shuffled"


def check_splits(
    splitter: Splitter, *, folds: int, holdout: float, target: Column, group: Column | None, rows: int, field: str
) -> dict[str, str]:
    """What is wrong with the folds and the hold-out, by path: `spec.validation.folds`.

    Only what is certain is refused: the summary of a dataset knows counts, and not which row is where.
    """
    found: dict[str, str] = {}
    usable = rows - target.null_count
    if folds == 1:
        return {f"{field}.folds": "is 1, but must be 0 (none) or 2 to 50"}
    training = training_rows(usable, holdout)
    if holdout and (training < 1 or usable < 2):
        found[f"{field}.holdout_fraction"] = f"is {holdout:g}, which leaves none of {usable:,} rows to train on"
    needed = folds + 1 if splitter is Splitter.TIME_SERIES and folds else folds
    if folds and training < needed:
        found[f"{field}.folds"] = f"is {folds}, but there are {max(training, 0):,} rows to make folds of"
    elif splitter is Splitter.STRATIFIED:
        found |= _stratified(target, folds, holdout, usable, field)
    elif splitter is Splitter.GROUPED and group is not None:
        found |= _grouped(group, folds, holdout, field)
    return found


def training_rows(usable: int, holdout: float) -> int:
    """Rows left to train on, as scikit-learn's splitters round them."""
    return usable - math.ceil(usable * holdout)


def _stratified(target: Column, folds: int, holdout: float, usable: int, field: str) -> dict[str, str]:
    counts = class_counts(target)
    if not counts:
        return {}
    label, rarest = min(counts.items(), key=lambda item: item[1])
    if holdout and rarest < 2:
        return {f"{field}.holdout_fraction": f"needs 2 rows of each class, but {label!r} has {rarest}{_INSTEAD}"}
    training = training_rows(usable, holdout)
    if holdout and min(training, usable - training) < len(counts):
        problem = f"is {holdout:g}, but {usable:,} rows split so cannot have all {len(counts)} classes on both sides"
        return {f"{field}.holdout_fraction": problem + _INSTEAD}
    # Of a class, the hold-out takes its share of the rows, rounded either way.
    training = math.ceil(rarest * (1 - holdout))
    if folds and training < folds:
        return {f"{field}.folds": f"is {folds}, but the rarest class {label!r} has {training} training rows{_INSTEAD}"}
    return {}


def _grouped(group: Column, folds: int, holdout: float, field: str) -> dict[str, str]:
    if not group.distinct_is_exact:
        return {}
    # A missing group is a group of its own.
    groups = group.distinct_count + (group.null_count > 0)
    if holdout and groups < 2:
        return {f"{field}.holdout_fraction": f"needs 2 groups, but {group.name!r} has {groups}"}
    training = groups - (1 if holdout else 0)
    if folds and training < folds:
        return {
            f"{field}.folds": f"is {folds}, but at most {training} groups of {group.name!r} are left to make folds of"
        }
    return {}
