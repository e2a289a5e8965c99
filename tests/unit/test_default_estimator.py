from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from mlops.jobs.catalog import check_estimator
from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.defaults import default_estimator
from mlops.jobs.training import Task
from mlops.jobs.traits import accepts_sample_weight, gives, kind_of
from mlops.ml.estimators import build

ROWS = 80
KINDS = tuple(ColumnKind)


def frame(kinds: tuple[ColumnKind, ...], *, seed: int, empty: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    made: dict[str, object] = {}
    for index, kind in enumerate(kinds):
        name = f"{kind.value}{index}"
        if kind is ColumnKind.BOOLEAN:
            made[name] = rng.random(ROWS) > 0.5
        elif kind is ColumnKind.CATEGORICAL:
            # Other seeds have other categories, some rows have none.
            values = np.array([f"c{seed}", "a", "b", None], dtype=object)[rng.integers(0, 4, ROWS)]
            made[name] = pd.Categorical([None] * ROWS, categories=["a"]) if empty else pd.Categorical(list(values))
        elif kind is ColumnKind.TEXT:
            words = np.array(["good", "bad", "", "a b c", "ugly tree"], dtype=object)
            made[name] = np.full(ROWS, "", dtype=object) if empty else words[rng.integers(0, 5, ROWS)]
        else:
            numbers = rng.normal(size=ROWS)
            numbers[rng.random(ROWS) < 0.2] = np.nan
            made[name] = np.full(ROWS, np.nan) if empty else numbers
    return pd.DataFrame(made)


def columns(kinds: tuple[ColumnKind, ...]) -> tuple[Column, ...]:
    return tuple(Column(name=f"{kind.value}{index}", kind=kind, arrow_type="") for index, kind in enumerate(kinds))


MIXES = [mix for size in range(1, 6) for mix in itertools.combinations(KINDS, size)]


@pytest.mark.parametrize("kinds", MIXES, ids="-".join)
def test_the_default_fits_every_mix_of_columns_and_meets_unseen_categories(kinds: tuple[ColumnKind, ...]) -> None:
    spec = default_estimator(columns(kinds), Task.CLASSIFICATION, rows=ROWS)
    assert check_estimator(spec, field="f") == {}
    y = np.arange(ROWS) % 2
    model = build(spec, seed=0).set_params(**_quick(spec.class_name)).fit(frame(kinds, seed=0), y)
    assert model.predict_proba(frame(kinds, seed=1)).shape == (ROWS, 2)
    assert model.predict(frame(kinds, seed=1, empty=True)).shape == (ROWS,)


def _quick(name: str) -> dict[str, int]:
    return {"boosting__max_iter": 3} if name == "Pipeline" else {"max_iter": 3}


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")  # no variance to explain
def test_columns_that_are_empty_throughout_still_fit() -> None:
    missing = [one.model_copy(update={"null_count": ROWS}) for one in columns(KINDS)]
    spec = default_estimator(missing, Task.REGRESSION, rows=ROWS)
    model = build(spec, seed=0).set_params(boosting__max_iter=3).fit(frame(KINDS, seed=0, empty=True), np.arange(ROWS))
    assert model.predict(frame(KINDS, seed=1)).shape == (ROWS,)


def test_two_text_columns_and_plain_strings_for_categories_fit() -> None:
    kinds = (ColumnKind.TEXT, ColumnKind.TEXT, ColumnKind.CATEGORICAL)
    data = frame(kinds, seed=0)
    data["categorical2"] = data["categorical2"].astype(object).where(data["categorical2"].notna(), np.nan)
    model = build(default_estimator(columns(kinds), Task.CLASSIFICATION, rows=ROWS), seed=0).set_params(
        boosting__max_iter=3
    )
    assert model.fit(data, np.arange(ROWS) % 3).predict(data).shape == (ROWS,)


def test_more_categories_than_boosting_can_tell_apart_still_fit() -> None:
    wide = Column(name="town", kind=ColumnKind.CATEGORICAL, arrow_type="", distinct_count=900)
    data = pd.DataFrame({"town": [f"t{index}" for index in range(900)] * 2})
    model = build(default_estimator([wide], Task.REGRESSION, rows=1800), seed=0).set_params(boosting__max_iter=3)
    assert model.fit(data, np.arange(1800)).predict(data).shape == (1800,)


def test_the_categories_are_what_boosting_splits_as_categories() -> None:
    kinds = (ColumnKind.NUMERIC, ColumnKind.CATEGORICAL, ColumnKind.TEXT, ColumnKind.CATEGORICAL)
    model = build(default_estimator(columns(kinds), Task.CLASSIFICATION, rows=ROWS), seed=0).set_params(
        boosting__max_iter=3
    )
    model.fit(frame(kinds, seed=0), np.arange(ROWS) % 2)
    assert list(np.flatnonzero(model[-1].is_categorical_)) == [0, 1]


@pytest.mark.parametrize("task", list(Task))
def test_the_default_suits_its_task_and_takes_weights(task: Task) -> None:
    spec = default_estimator(columns(KINDS), task, rows=ROWS)
    assert kind_of(spec) == ("classifier" if task is Task.CLASSIFICATION else "regressor")
    assert accepts_sample_weight(spec)
    assert gives(spec, "predict_proba") is (task is Task.CLASSIFICATION)
