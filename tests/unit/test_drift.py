from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.jobs.card import FeatureReference
from mlops.jobs.dataset import Column, ColumnKind
from mlops.ml import drift
from mlops.ml.drift import DriftSample, bin_counts, drifts, population_stability_index
from mlops.ml.reference import MAX_BINS, references

REAL = Column(name="x", kind=ColumnKind.NUMERIC, arrow_type="double")
WORD = Column(name="w", kind=ColumnKind.CATEGORICAL, arrow_type="dictionary")


def reference_of(values: list[float], column: Column = REAL) -> FeatureReference:
    return references(pd.DataFrame({column.name: values}), [column])[0]


def test_the_index_is_that_of_a_worked_example() -> None:
    # Ten score bands, worked by hand to six digits: sum of (actual - expected) * ln(actual / expected).
    expected = [0.10] * 10
    actual = [0.08, 0.09, 0.10, 0.11, 0.12, 0.10, 0.10, 0.10, 0.10, 0.10]
    by_hand = (-0.02 * -0.223144) + (-0.01 * -0.105361) + (0.01 * 0.095310) + (0.02 * 0.182322)
    assert population_stability_index(expected, actual) == pytest.approx(by_hand, abs=1e-6)
    # Two bands, 50:50 to 80:20: 0.3 * ln 1.6 + (-0.3) * ln 0.4 = 0.3 * ln 4.
    assert population_stability_index([0.5, 0.5], [0.8, 0.2]) == pytest.approx(0.3 * math.log(4))


def test_an_empty_bin_counts_as_epsilon() -> None:
    expected = (1 - 0.5) * math.log(1 / 0.5) + (1e-4 - 0.5) * math.log(1e-4 / 0.5)
    assert population_stability_index([0.5, 0.5], [7, 0]) == pytest.approx(expected)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.data())
def test_the_index_is_never_negative_and_zero_for_equal_shares(counts: list[int], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.integers(0, 1000), min_size=len(counts), max_size=len(counts)))
    found = population_stability_index(counts, other)
    if not sum(counts) or not sum(other):
        assert math.isnan(found)
    else:
        assert found >= 0
        assert population_stability_index(counts, [3 * count for count in counts]) == pytest.approx(0, abs=1e-12)


def test_without_bins_there_is_no_index() -> None:
    assert math.isnan(population_stability_index([], []))
    assert math.isnan(population_stability_index([0.5, 0.5], [1]))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300))
def test_training_data_has_not_moved_from_itself(values: list[float]) -> None:
    reference = reference_of(values)
    assert len(reference.edges) < MAX_BINS
    assert list(reference.edges) == sorted(set(reference.edges))
    counts = bin_counts(reference, np.array(values))
    assert sum(counts.counts) == len(values)
    assert counts.unseen == 0
    np.testing.assert_allclose(np.array(counts.counts) / len(values), reference.shares, atol=1e-6)
    assert population_stability_index(reference.shares, counts.counts) == pytest.approx(0, abs=1e-3)


def test_numbers_outside_of_training_are_unseen_and_missing_ones_counted_apart() -> None:
    reference = reference_of([0.0, 1.0, 2.0, math.nan])
    counts = bin_counts(reference, np.array([-1.0, 0.0, 2.0, 3.0, math.nan, math.nan]))
    assert (reference.minimum, reference.maximum, reference.missing_share) == (0.0, 2.0, 0.25)
    assert (sum(counts.counts), counts.missing, counts.unseen) == (4, 2, 2)


def test_categories_that_training_did_not_have_share_a_bin_and_are_unseen() -> None:
    frame = pd.DataFrame({"w": pd.Categorical(["b", "a", "b", None, "b"])})
    reference = references(frame, [WORD])[0]
    assert reference.categories == ("b", "a")
    assert reference.shares == (0.75, 0.25, 0.0)
    assert reference.missing_share == 0.2
    counts = bin_counts(reference, pd.Categorical(["z", "a", None, "b", "y"]))
    assert (counts.counts, counts.missing, counts.unseen) == ((1, 1, 2), 1, 2)


def test_rare_categories_are_one_of_the_others_and_not_unseen() -> None:
    words = [f"word {i}" for i in range(60)]
    reference = references(pd.DataFrame({"w": pd.Categorical(words)}), [WORD])[0]
    assert len(reference.categories) == 50
    assert reference.shares[-1] == pytest.approx(10 / 60, abs=1e-6)
    assert bin_counts(reference, pd.Categorical(["word 59", "new"])).unseen == 0


def test_booleans_and_texts_have_their_counts_too() -> None:
    columns = [
        Column(name="t", kind=ColumnKind.BOOLEAN, arrow_type="bool"),
        Column(name="n", kind=ColumnKind.TEXT, arrow_type="large_string"),
    ]
    frame = pd.DataFrame({"t": [True, True, False], "n": pd.Series(["x", "", "y"], dtype=object)})
    truth, note = references(frame, columns)
    assert (truth.categories, truth.shares) == (("true", "false"), (0.6666667, 0.3333333, 0.0))
    assert bin_counts(truth, np.array([False, False, True])).counts == (1, 2, 0)
    counts = bin_counts(note, np.array(["", "z", "z"], dtype=object))
    found = drifts([note], [(1.0, {"n": counts})])[0]
    assert math.isnan(found.psi)
    assert found.missing_share == pytest.approx(1 / 3)
    assert note.missing_share == pytest.approx(1 / 3, abs=1e-6)


def test_samples_are_weighed_by_the_rows_that_they_stand_for() -> None:
    reference = FeatureReference(name="x", edges=(0.0,), shares=(0.5, 0.5), minimum=-1.0, maximum=1.0)
    low, high = bin_counts(reference, np.array([-1.0])), bin_counts(reference, np.array([1.0, 2.0]))
    found = drifts([reference], [(6.0, {"x": low}), (1.0, {"x": high})])[0]
    assert found.psi == pytest.approx(population_stability_index([0.5, 0.5], [6, 2]))
    assert found.unseen_share == pytest.approx(1 / 8)


def test_a_long_shard_is_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "MAX_ROWS", 100)
    reference = reference_of(list(np.linspace(0, 1, 1000)))
    sample = DriftSample([reference], 1000)
    for start in range(0, 1000, 250):
        sample.add(np.linspace(0, 1, 1000)[start : start + 250, None])
    assert sample.rows == 100
    assert population_stability_index(reference.shares, sample.counts()["x"].counts) < 0.05


def test_blocks_with_categories_of_their_own_are_counted_together() -> None:
    reference = references(pd.DataFrame({"w": pd.Categorical(["a", "b"])}), [WORD])[0]
    sample = DriftSample([reference], 4)
    sample.add([pd.Categorical(["b", "b"])])
    sample.add([pd.Categorical(["a", "z"])])
    assert sample.counts()["w"].counts == (1, 2, 1)


def test_the_reference_of_many_features_stays_small_and_is_made_quickly() -> None:
    columns = [REAL.model_copy(update={"name": f"feature {i}"}) for i in range(5000)]
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(3000, 5000)), columns=[c.name for c in columns])
    found = references(frame, columns)
    assert sum(len(reference.model_dump_json()) for reference in found) < 4_000_000


def test_equal_values_make_one_bin() -> None:
    assert reference_of([1.0] * 100).edges == ()
    assert reference_of([0.0] * 96 + [1.0] * 4).edges == ()
    assert reference_of([0.0] * 60 + [1.0] * 40).edges == (1.0,)
    assert reference_of([math.nan]).shares == ()
