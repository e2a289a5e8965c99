"""Which rows are trained on and which are kept apart, decided by the plan and its seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    TimeSeriesSplit,
    train_test_split,
)

from mlops.errors import DataInvalid
from mlops.jobs.training import Splitter, Task, TrainingPlan

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row positions. Nothing is in both; `test` is empty where nothing is kept apart."""

    train: Indices
    test: Indices


@dataclass(frozen=True, kw_only=True)
class Keys:
    """What a split goes by, one value a row. target: (n,); groups: (n,) of anything; times: float64 (n,)."""

    target: npt.NDArray[Any]
    groups: npt.NDArray[Any] | None = None
    times: npt.NDArray[np.float64] | None = None

    def take(self, rows: Indices) -> Keys:
        """The keys of these rows only."""
        return Keys(
            target=self.target[rows],
            groups=None if self.groups is None else self.groups[rows],
            times=None if self.times is None else self.times[rows],
        )


def holdout(plan: TrainingPlan, keys: Keys) -> Split:
    """The rows kept apart from all training, and the rest; both sorted.

    Raises DataInvalid where a class, group or time is too rare to be split as asked.
    """
    rows = np.arange(len(keys.target), dtype=np.intp)
    fraction = plan.holdout_fraction
    if fraction == 0:
        return Split(train=rows, test=rows[:0])
    if len(rows) < 2:
        raise DataInvalid(f"{len(rows)} rows with a target are too few to keep some apart")
    match plan.splitter:
        case Splitter.SHUFFLED:
            train, test = train_test_split(rows, test_size=fraction, random_state=plan.seed)
        case Splitter.STRATIFIED:
            counts = _class_counts(keys.target)
            _refuse_rare(counts, 2, "a hold-out")
            kept = int(np.ceil(fraction * len(rows)))
            if min(kept, len(rows) - kept) < len(counts):
                raise DataInvalid(
                    f"a hold-out of {kept} of {len(rows)} rows cannot hold each of {len(counts)} classes on both sides",
                    hint="Change the hold-out's fraction, or use the splitter 'shuffled'.",
                )
            train, test = train_test_split(rows, test_size=fraction, random_state=plan.seed, stratify=keys.target)
        case Splitter.GROUPED:
            train, test = _grouped_holdout(plan, keys, rows)
        case Splitter.TIME_SERIES:
            train, test = _latest(_times(keys), fraction)
    return Split(train=np.sort(train), test=np.sort(test))


def folds(plan: TrainingPlan, keys: Keys, rows: Indices) -> Iterator[Split]:
    """The folds made of `rows` (the training part of the hold-out), as positions in the whole data.

    Raises DataInvalid as `holdout` does.
    """
    part = keys.take(rows)
    for train, test in _folds(plan, part):
        yield Split(train=rows[train], test=rows[test])


def fold(plan: TrainingPlan, keys: Keys, rows: Indices, index: int) -> Split:
    """Fold `index` (from 0) of `folds`."""
    return next(islice(folds(plan, keys, rows), index, None))


def _folds(plan: TrainingPlan, keys: Keys) -> Iterator[tuple[Indices, Indices]]:
    count, target = plan.folds, keys.target
    if len(target) < count:
        raise DataInvalid(f"{len(target)} training rows are too few for {count} folds", hint="Use fewer folds.")
    shape = np.zeros(len(target), dtype=np.int8)
    match plan.splitter:
        case Splitter.SHUFFLED:
            yield from KFold(count, shuffle=True, random_state=plan.seed).split(shape)
        case Splitter.STRATIFIED:
            _refuse_rare(_class_counts(target), count, f"{count} folds")
            yield from StratifiedKFold(count, shuffle=True, random_state=plan.seed).split(shape, target)
        case Splitter.GROUPED:
            groups = _groups(keys, count, f"{count} folds")
            if plan.task is Task.CLASSIFICATION:
                _refuse_few(_class_counts(target), count, f"{count} folds")
                yield from StratifiedGroupKFold(count, shuffle=True, random_state=plan.seed).split(
                    shape, target, groups
                )
            else:
                yield from GroupKFold(count, shuffle=True, random_state=plan.seed).split(shape, target, groups)
        case Splitter.TIME_SERIES:
            yield from _later_and_later(_times(keys), count)


def _later_and_later(times: npt.NDArray[np.float64], count: int) -> Iterator[tuple[Indices, Indices]]:
    order = np.argsort(times, kind="stable")
    if len(order) < count + 1:
        raise DataInvalid(f"{len(order)} training rows are too few for {count} folds in time", hint="Use fewer folds.")
    for train, test in TimeSeriesSplit(count).split(order):
        # Rows of one moment must not stand on both sides.
        earlier = train[times[order[train]] < times[order[test[0]]]]
        if not len(earlier):
            raise DataInvalid(
                f"no row is earlier than the first of {count} folds: too many rows share one time",
                hint="Use fewer folds, or a finer time column.",
            )
        yield order[earlier], order[test]


def _latest(times: npt.NDArray[np.float64], fraction: float) -> tuple[Indices, Indices]:
    order = np.argsort(times, kind="stable")
    kept = min(max(1, int(np.ceil(fraction * len(order)))), len(order) - 1)
    first = times[order[len(order) - kept]]
    # Rows of the moment at which the hold-out begins all belong to it.
    train = np.flatnonzero(times < first)
    if not len(train):
        raise DataInvalid(
            "no row is earlier than the hold-out: too many rows share one time", hint="Use a finer time column."
        )
    return train, np.flatnonzero(times >= first)


def _grouped_holdout(plan: TrainingPlan, keys: Keys, rows: Indices) -> tuple[Indices, Indices]:
    groups = _groups(keys, 2, "a hold-out")
    fraction = plan.holdout_fraction
    if plan.task is Task.CLASSIFICATION:
        # The smaller side is one of k equal parts, with the classes' shares kept as well as the groups allow.
        smaller = min(fraction, 1 - fraction)
        parts = min(max(2, round(1 / smaller)), len(np.unique(groups)))
        counts = _class_counts(keys.target)
        _refuse_few(counts, 2, "a hold-out")
        parts = max(2, min(parts, max(counts.values())))
        splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=plan.seed)
        larger, part = next(splitter.split(rows, keys.target, groups))
        return (larger, part) if fraction <= 0.5 else (part, larger)
    splitter = GroupShuffleSplit(1, test_size=fraction, random_state=plan.seed)
    train, test = next(splitter.split(rows, keys.target, groups))
    return train, test


def _groups(keys: Keys, needed: int, what: str) -> Indices:
    if keys.groups is None:
        raise DataInvalid("the splitter 'grouped' needs a group column", hint="Set group_column.")
    # A missing group is a group of its own.
    codes, found = pd.factorize(keys.groups, use_na_sentinel=False)
    if len(found) < needed:
        raise DataInvalid(f"{len(found)} groups are too few for {what}", hint="Use fewer folds, or another splitter.")
    return codes


def _times(keys: Keys) -> npt.NDArray[np.float64]:
    if keys.times is None:
        raise DataInvalid("the splitter 'time_series' needs a time column", hint="Set time_column.")
    times = np.asarray(keys.times, dtype=np.float64)
    missing = int(np.isnan(times).sum())
    if missing:
        raise DataInvalid(
            f"the time column is missing in {missing} rows", hint="Drop these rows, or use another splitter."
        )
    return times


def _class_counts(target: npt.NDArray[Any]) -> dict[str, int]:
    labels, counts = np.unique(target, return_counts=True)
    return {str(label): int(count) for label, count in zip(labels, counts, strict=True)}


def _refuse_few(counts: dict[str, int], needed: int, what: str) -> None:
    """Groups cannot keep the classes' shares exactly, so only the most frequent class must do."""
    if max(counts.values()) < needed:
        raise DataInvalid(
            f"every class of the target has fewer than {needed} rows, too few for {what}", hint="Use fewer folds."
        )


def _refuse_rare(counts: dict[str, int], needed: int, what: str) -> None:
    label, count = min(counts.items(), key=lambda item: item[1])
    if count < needed:
        raise DataInvalid(
            f"class {label!r} of the target has {count} row{'s' * (count != 1)}, too few for {what} with the classes'"
            f" shares kept",
            hint=f"Merge or drop classes of fewer than {needed} rows, use fewer folds, or the splitter 'shuffled'.",
        )
