"""How the features were distributed in training: what drift is measured against. Small, and made in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlops.jobs.card import FeatureReference
from mlops.jobs.dataset import Column, ColumnKind

# Of a longer or a wider table, an even sample of the rows is looked at.
MAX_ROWS = 200_000
MAX_VALUES = 1_000_000
MIN_ROWS = 2_000
MAX_BINS = 20
MIN_BINS = 5
MAX_CATEGORIES = 50
MIN_CATEGORIES = 5
# With more features than these make room for, each has fewer bins and categories: a card stays below a few MB.
TOTAL_BINS = 40_000
TOTAL_CATEGORIES = 40_000
# A longer value is one of "all others".
MAX_CATEGORY_CHARACTERS = 100
_DIGITS = 10
_SHARE_DIGITS = 7


def references(features: pd.DataFrame, columns: Sequence[Column]) -> tuple[FeatureReference, ...]:
    """The distribution of each column of `features`, in their order.

    features: as ml.frame loads them. Of more than MAX_ROWS rows, or MAX_VALUES values, every n-th row is used.
    """
    width = max(len(columns), 1)
    wanted = min(MAX_ROWS, max(MIN_ROWS, MAX_VALUES // width))
    step = max(1, -(-len(features) // wanted))
    sample = features if step == 1 else features.iloc[::step]
    bins = min(MAX_BINS, max(MIN_BINS, TOTAL_BINS // width))
    categories = min(MAX_CATEGORIES, max(MIN_CATEGORIES, TOTAL_CATEGORIES // width))
    return tuple(
        _reference(column, values, bins=bins, categories=categories)
        for column, (_, values) in zip(columns, sample.items(), strict=True)
    )


def _reference(column: Column, values: pd.Series[Any], *, bins: int, categories: int) -> FeatureReference:
    match column.kind:
        case ColumnKind.NUMERIC | ColumnKind.DATETIME:
            return _of_numbers(column.name, values.to_numpy(), bins)
        case ColumnKind.CATEGORICAL:
            return _of_categories(column.name, values, categories)
        case ColumnKind.BOOLEAN:
            return _of_booleans(column.name, values.to_numpy())
        case ColumnKind.TEXT:
            missing = float((values == "").mean()) if len(values) else 0.0
            return FeatureReference(name=column.name, missing_share=round(missing, _SHARE_DIGITS))


def _of_numbers(name: str, values: npt.NDArray[Any], bins: int) -> FeatureReference:
    """Bins of equal shares, as far as equal values allow."""
    present = values if values.dtype.kind in "iu" else values[np.isfinite(values)]
    missing = 1 - len(present) / len(values) if len(values) else 0.0
    if not len(present):
        return FeatureReference(name=name, missing_share=missing)
    ordered = np.sort(present)
    # Ranks, and not interpolated quantiles: an edge is a value that occurs.
    ranks = np.arange(1, bins) * len(ordered) // bins
    # Rounded, so that the card is short; shares are counted with the very edges that are kept.
    edges = np.unique([float(f"{value:.{_DIGITS}g}") for value in ordered[ranks]])
    edges = edges[edges > ordered[0]]
    below = np.concatenate([[0], np.searchsorted(ordered, edges, side="left"), [len(ordered)]])
    return FeatureReference(
        name=name,
        edges=tuple(map(float, edges)),
        shares=_shares(np.diff(below)),
        missing_share=round(missing, _SHARE_DIGITS),
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
    )


def _of_categories(name: str, values: pd.Series[Any], most: int) -> FeatureReference:
    codes, labels = values.cat.codes.to_numpy(), values.cat.categories
    counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    order = [int(i) for i in np.argsort(-counts, kind="stable")[:most] if counts[i]]
    kept = [i for i in order if len(labels[i]) <= MAX_CATEGORY_CHARACTERS]
    others = int(counts.sum()) - int(counts[kept].sum())
    return FeatureReference(
        name=name,
        categories=tuple(str(labels[i]) for i in kept),
        shares=_shares(np.append(counts[kept], others)) if counts.sum() else (),
        missing_share=round(float((codes < 0).mean()), _SHARE_DIGITS) if len(codes) else 0.0,
    )


def _of_booleans(name: str, values: npt.NDArray[np.bool_]) -> FeatureReference:
    true = int(values.sum())
    counts = sorted((("true", true), ("false", len(values) - true)), key=lambda pair: -pair[1])
    return FeatureReference(
        name=name,
        categories=tuple(label for label, _ in counts),
        shares=_shares(np.array([*(count for _, count in counts), 0])),
    )


def _shares(counts: npt.NDArray[Any]) -> tuple[float, ...]:
    total = max(int(counts.sum()), 1)
    return tuple(round(float(count) / total, _SHARE_DIGITS) for count in counts)
