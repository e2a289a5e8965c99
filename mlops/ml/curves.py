"""ROC and precision-recall curves, one class against the rest, thinned out to what a page shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

from mlops.jobs.report import Curve

MAX_POINTS = 200
MAX_CLASSES = 20

ROC = "roc"
PRECISION_RECALL = "pr"

Array = npt.NDArray[np.float64]


def curves_of(truth: npt.NDArray[Any], scores: Array, classes: tuple[str, ...]) -> tuple[Curve, ...]:
    """Both curves of each class (of two classes: of the second, the positive one).

    truth: (n,) labels as text; scores: float64 (n, len(classes)). Rows with a NaN score of a class do not count
    for that class; a class without rows of its own, or without others, has no curve. Of more than MAX_CLASSES
    the most frequent ones are drawn.
    """
    return tuple(_curves(truth, scores, classes))


def _curves(truth: npt.NDArray[Any], scores: Array, classes: tuple[str, ...]) -> Iterator[Curve]:
    counts = {label: int((truth == label).sum()) for label in classes}
    drawn = classes[1:] if len(classes) == 2 else classes
    frequent = set(sorted(drawn, key=lambda label: -counts[label])[:MAX_CLASSES])
    for index, label in enumerate(classes):
        if label not in frequent:
            continue
        known = np.isfinite(scores[:, index])
        positive, value = truth[known] == label, scores[known, index]
        if positive.all() or not positive.any():
            continue
        false_positive, true_positive, _ = roc_curve(positive, value)
        yield _thinned(ROC, label, false_positive, true_positive, float(auc(false_positive, true_positive)))
        precision, recall, _ = precision_recall_curve(positive, value, drop_intermediate=True)
        area = float(average_precision_score(positive, value))
        yield _thinned(PRECISION_RECALL, label, recall[::-1], precision[::-1], area)


def _thinned(kind: str, label: str, x: Array, y: Array, area: float) -> Curve:
    """Keeps points at equal distances along the curve, each one a point of the curve itself, the ends always."""
    if len(x) > MAX_POINTS:
        along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
        wanted = np.linspace(0.0, along[-1], MAX_POINTS)
        kept = np.unique(np.concatenate([[0], np.searchsorted(along, wanted), [len(x) - 1]]).clip(0, len(x) - 1))
        if len(kept) > MAX_POINTS:
            kept = np.delete(kept, -2)
        x, y = x[kept], y[kept]
    return Curve(kind=kind, label=label, x=tuple(map(float, x)), y=tuple(map(float, y)), area=area)
