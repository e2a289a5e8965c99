from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, KFold, StratifiedGroupKFold, StratifiedKFold, TimeSeriesSplit

from mlops.errors import DataInvalid
from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.training import Splitter, Task, TrainingPlan
from mlops.ml.splits import Keys, fold, folds, holdout
from tests.fixtures.plans import plan

ROWS = 200
RNG = np.random.default_rng(0)
LABELS = RNG.choice(np.array(["no", "yes", "maybe"], dtype=object), ROWS, p=[0.6, 0.3, 0.1])
NUMBERS = RNG.normal(size=ROWS)
GROUPS = RNG.integers(0, 20, ROWS)
TIMES = RNG.permutation(ROWS).astype(np.float64)
ALL = np.arange(ROWS)


def asked(splitter: Splitter, **changes: Any) -> TrainingPlan:
    column = Column(name="y", kind=ColumnKind.CATEGORICAL, arrow_type="string")
    return plan([column], splitter=splitter, **changes)


KEYS = Keys(target=LABELS, groups=GROUPS, times=TIMES)


@pytest.mark.parametrize("splitter", list(Splitter))
@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.8])
def test_a_holdout_is_as_large_as_asked_and_shares_no_row_with_training(splitter: Splitter, fraction: float) -> None:
    split = holdout(asked(splitter, holdout_fraction=fraction), KEYS)
    assert sorted([*split.train, *split.test]) == list(ALL)
    assert len(split.test) / ROWS == pytest.approx(fraction, abs=0.08)


@pytest.mark.parametrize("splitter", list(Splitter))
def test_the_same_seed_gives_the_same_rows_and_another_seed_others(splitter: Splitter) -> None:
    one = asked(splitter, folds=4)
    again, other = asked(splitter, folds=4), asked(splitter, folds=4, seed=8)
    first, second, third = holdout(one, KEYS), holdout(again, KEYS), holdout(other, KEYS)
    np.testing.assert_array_equal(first.test, second.test)
    # Time has no chance in it, and balancing classes over groups leaves little.
    if splitter in (Splitter.SHUFFLED, Splitter.STRATIFIED):
        assert not np.array_equal(first.test, third.test)
    for index in range(4):
        np.testing.assert_array_equal(
            fold(one, KEYS, first.train, index).test, fold(again, KEYS, first.train, index).test
        )


def test_no_holdout_trains_on_everything() -> None:
    split = holdout(asked(Splitter.SHUFFLED, holdout_fraction=0.0), KEYS)
    np.testing.assert_array_equal(split.train, ALL)
    assert len(split.test) == 0


@pytest.mark.parametrize("splitter", list(Splitter))
def test_folds_are_made_of_the_training_part_only(splitter: Splitter) -> None:
    of = asked(splitter, folds=5)
    kept = holdout(of, KEYS)
    found = list(folds(of, KEYS, kept.train))
    assert len(found) == 5
    for split in found:
        assert not set(split.train) & set(split.test)
        assert {*split.train, *split.test} <= set(kept.train)
    tested = [row for split in found for row in split.test]
    assert len(tested) == len(set(tested))


@pytest.mark.parametrize(
    ("splitter", "task", "theirs"),
    [
        (Splitter.SHUFFLED, Task.CLASSIFICATION, KFold(5, shuffle=True, random_state=7)),
        (Splitter.STRATIFIED, Task.CLASSIFICATION, StratifiedKFold(5, shuffle=True, random_state=7)),
        (Splitter.GROUPED, Task.CLASSIFICATION, StratifiedGroupKFold(5, shuffle=True, random_state=7)),
        (Splitter.GROUPED, Task.REGRESSION, GroupKFold(5, shuffle=True, random_state=7)),
    ],
)
def test_folds_are_scikit_learns(splitter: Splitter, task: Task, theirs: Any) -> None:
    of = asked(splitter, folds=5, holdout_fraction=0.0, task=task)
    target = LABELS if task is Task.CLASSIFICATION else NUMBERS
    ours = list(folds(of, Keys(target=target, groups=GROUPS), ALL))
    # Groups are numbered by their first appearance, which scikit-learn's shuffling goes by.
    groups = pd.factorize(GROUPS)[0] if splitter is Splitter.GROUPED else None
    for split, (train, test) in zip(ours, theirs.split(ALL, target, groups), strict=True):
        np.testing.assert_array_equal(split.train, train)
        np.testing.assert_array_equal(split.test, test)


def test_folds_in_time_are_scikit_learns_on_the_rows_in_order() -> None:
    of = asked(Splitter.TIME_SERIES, folds=5, holdout_fraction=0.0)
    order = np.argsort(TIMES)
    for split, (train, test) in zip(folds(of, KEYS, ALL), TimeSeriesSplit(5).split(order), strict=True):
        np.testing.assert_array_equal(split.train, order[train])
        np.testing.assert_array_equal(split.test, order[test])


def test_training_rows_are_earlier_than_judged_ones_even_when_times_repeat() -> None:
    times = np.repeat(np.arange(20.0), 10)[RNG.permutation(ROWS)]
    keys = Keys(target=LABELS, times=times)
    of = asked(Splitter.TIME_SERIES, folds=6, holdout_fraction=0.13)
    kept = holdout(of, keys)
    assert times[kept.train].max() < times[kept.test].min()
    for split in folds(of, keys, kept.train):
        assert times[split.train].max() < times[split.test].min()


def test_rows_of_a_group_stay_together_and_a_missing_group_is_one() -> None:
    groups = np.array([None if code == 3 else f"g{code}" for code in GROUPS], dtype=object)
    keys = Keys(target=LABELS, groups=groups)
    of = asked(Splitter.GROUPED, folds=4)
    kept = holdout(of, keys)
    assert not set(groups[kept.train]) & set(groups[kept.test])
    for split in folds(of, keys, kept.train):
        assert not set(groups[split.train]) & set(groups[split.test])


def test_classes_keep_their_shares() -> None:
    of = asked(Splitter.STRATIFIED, folds=4, holdout_fraction=0.25)
    kept = holdout(of, KEYS)
    for part in (kept.test, *(split.test for split in folds(of, KEYS, kept.train))):
        assert np.mean(LABELS[part] == "yes") == pytest.approx(np.mean(LABELS == "yes"), abs=0.03)


def test_a_class_too_rare_for_the_folds_is_named_with_its_count() -> None:
    target = np.array(["common"] * 50 + ["rare"] * 3, dtype=object)
    of = asked(Splitter.STRATIFIED, folds=5, holdout_fraction=0.0)
    with pytest.raises(DataInvalid, match=r"class 'rare' of the target has 3 rows, too few for 5 folds") as caught:
        list(folds(of, Keys(target=target), np.arange(53)))
    assert "fewer folds" in caught.value.hint


def test_a_class_of_one_row_cannot_be_on_both_sides_of_a_holdout() -> None:
    target = np.array([0] * 50 + [1])
    with pytest.raises(DataInvalid, match="class '1' of the target has 1 row, too few for a hold-out"):
        holdout(asked(Splitter.STRATIFIED), Keys(target=target))


def test_a_holdout_too_small_for_all_classes_is_refused() -> None:
    target = np.repeat(np.arange(10), 2)
    with pytest.raises(DataInvalid, match="cannot hold each of 10 classes"):
        holdout(asked(Splitter.STRATIFIED, holdout_fraction=0.1), Keys(target=target))


@pytest.mark.parametrize(
    ("splitter", "keys", "problem"),
    [
        (Splitter.GROUPED, Keys(target=LABELS), "needs a group column"),
        (Splitter.GROUPED, Keys(target=LABELS, groups=np.zeros(ROWS)), "1 groups are too few"),
        (Splitter.TIME_SERIES, Keys(target=LABELS), "needs a time column"),
        (Splitter.TIME_SERIES, Keys(target=LABELS, times=np.where(TIMES < 3, np.nan, TIMES)), "missing in 3 rows"),
        (Splitter.TIME_SERIES, Keys(target=LABELS, times=np.zeros(ROWS)), "too many rows share one time"),
        (Splitter.SHUFFLED, Keys(target=LABELS[:1]), "1 rows with a target are too few"),
    ],
)
def test_what_cannot_be_split_is_refused(splitter: Splitter, keys: Keys, problem: str) -> None:
    with pytest.raises(DataInvalid, match=problem):
        holdout(asked(splitter), keys)


@pytest.mark.parametrize("splitter", list(Splitter))
def test_too_few_rows_for_the_folds_are_refused(splitter: Splitter, tmp_path: Path) -> None:
    few = np.arange(4)
    of = asked(splitter, folds=5, holdout_fraction=0.0)
    with pytest.raises(DataInvalid, match="too few for 5 folds"):
        list(folds(of, KEYS, few))
