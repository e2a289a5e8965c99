"""How far an input has moved from the data that the model learnt from.

The population stability index of a feature (Siddiqi 2006, "Credit Risk Scorecards", ch. 5) is the sum over its
bins of (a - e) * ln(a / e), where e is a bin's share in training and a its share now. A share below EPSILON counts
as EPSILON, so that an empty bin moves the index a lot, but not to infinity. Missing values are in no bin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from pandas.api.types import union_categoricals

from mlops.jobs.card import FeatureReference
from mlops.jobs.inference import BinCounts, FeatureDrift
from mlops.ml.prediction import Inputs, rows_of, take

EPSILON = 1e-4
# Of one sample: at most so many rows, and with many features so many values.
MAX_ROWS = 10_000
MIN_ROWS = 500
MAX_VALUES = 2_000_000


class DriftSample:
    """An even sample of the rows that pass by, to count once they have all passed."""

    def __init__(self, references: Sequence[FeatureReference], rows: int) -> None:
        """rows: how many will pass. Of many, every n-th is kept (in each block, from its first)."""
        self._references = references
        kept = min(MAX_ROWS, max(MIN_ROWS, MAX_VALUES // max(len(references), 1)))
        self._step = max(1, -(-rows // kept))
        self._parts: list[Inputs] = []
        self.rows = 0

    def add(self, inputs: Inputs) -> None:
        """Takes what it wants of a block of rows: the features of the references, in their order."""
        if not self._references:
            return
        part = take(inputs, slice(None, None, self._step))
        # A view would keep the whole block.
        part = part.copy() if isinstance(part, np.ndarray) else [column.copy() for column in part]
        self._parts.append(part)
        self.rows += rows_of(part)

    def counts(self) -> dict[str, BinCounts]:
        """By feature, how the sample falls into its bins."""
        if not self._parts:
            return {}
        columns = (_joined([_column(part, index) for part in self._parts]) for index in range(len(self._references)))
        return {
            reference.name: bin_counts(reference, values)
            for reference, values in zip(self._references, columns, strict=True)
        }


def bin_counts(reference: FeatureReference, values: Any) -> BinCounts:
    """How the values of a feature (a column as ml.prediction takes it) fall into the bins of its reference.

    A feature without bins has one, for all values that are there.
    """
    if isinstance(values, pd.Categorical):
        return _of_categories(reference, values)
    array: npt.NDArray[Any] = np.asarray(values)
    if array.dtype == object:
        missing = int((array == "").sum())
        return BinCounts(counts=(len(array) - missing,), missing=missing)
    if reference.categories:
        true = int(np.count_nonzero(array))
        by_label = {"true": true, "false": len(array) - true}
        return BinCounts(counts=(*(by_label[label] for label in reference.categories), 0))
    return _of_numbers(reference, array)


def population_stability_index(expected: Sequence[float], actual: Sequence[float]) -> float:
    """The index of two distributions over the same bins, as shares or as counts; 0.1 is slight, 0.25 is large.

    NaN where there are no bins, or nothing in them.
    """
    then, now = sum(expected), sum(actual)
    if len(expected) != len(actual) or then <= 0 or now <= 0:
        return math.nan
    shares = ((max(e / then, EPSILON), max(a / now, EPSILON)) for e, a in zip(expected, actual, strict=True))
    return math.fsum((a - e) * math.log(a / e) for e, a in shares)


def drifts(
    references: Sequence[FeatureReference], samples: Iterable[tuple[float, Mapping[str, BinCounts]]]
) -> tuple[FeatureDrift, ...]:
    """The drift of each feature over several samples, each with the number of rows that a row of it stands for."""
    weighed = list(samples)
    return tuple(_drift(reference, weighed) for reference in references)


def _drift(reference: FeatureReference, samples: Sequence[tuple[float, Mapping[str, BinCounts]]]) -> FeatureDrift:
    bins: npt.NDArray[np.float64] | None = None
    missing = unseen = 0.0
    for weight, counts in samples:
        one = counts.get(reference.name)
        if one is not None:
            weighed = weight * np.asarray(one.counts, dtype=np.float64)
            bins = weighed if bins is None else bins + weighed
            missing += weight * one.missing
            unseen += weight * one.unseen
    if bins is None:
        bins = np.zeros(len(reference.shares))
    present = float(bins.sum())
    return FeatureDrift(
        feature=reference.name,
        psi=population_stability_index(reference.shares, tuple(map(float, bins))),
        missing_share=missing / (present + missing) if present + missing else 0.0,
        reference_missing_share=reference.missing_share,
        unseen_share=unseen / present if present else 0.0,
    )


def _of_numbers(reference: FeatureReference, values: npt.NDArray[Any]) -> BinCounts:
    present = values if values.dtype.kind in "biu" else values[~np.isnan(values)]
    bins = np.searchsorted(np.asarray(reference.edges), present, side="right")
    unseen = 0
    if reference.minimum is not None and reference.maximum is not None:
        unseen = int(np.count_nonzero((present < reference.minimum) | (present > reference.maximum)))
    return BinCounts(
        counts=tuple(map(int, np.bincount(bins, minlength=len(reference.edges) + 1))),
        missing=len(values) - len(present),
        unseen=unseen,
    )


def _of_categories(reference: FeatureReference, values: pd.Categorical) -> BinCounts:
    """The last bin is of all that is not among the reference's categories; where training had only those, of values
    that it never saw.
    """
    where = pd.Index(reference.categories, dtype=object).get_indexer(values.categories)
    where = np.where(where < 0, len(reference.categories), where)
    present = values.codes[values.codes >= 0]
    counts = np.bincount(where[present], minlength=len(reference.categories) + 1)
    others = int(counts[-1])
    knows_all = bool(reference.shares) and reference.shares[-1] == 0
    return BinCounts(
        counts=tuple(map(int, counts)), missing=len(values) - len(present), unseen=others if knows_all else 0
    )


def _column(inputs: Inputs, index: int) -> Any:
    return inputs[:, index] if isinstance(inputs, np.ndarray) else inputs[index]


def _joined(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return union_categoricals(list(parts)) if isinstance(parts[0], pd.Categorical) else np.concatenate(parts)
