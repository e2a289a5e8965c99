"""Scores of a batch against labels in its input: sums that add up over blocks and shards to the metrics of the whole.

Definitions are scikit-learn's (sklearn.metrics), without sample weights; rows whose target is missing do not count.
    classification  accuracy, balanced_accuracy, and precision, recall and f1 as macro averages over all classes
                    that are true or predicted somewhere, 0 where a class gives no ratio; with probabilities log_loss,
                    and for two classes roc_auc
    regression      r2, mean_absolute_error, mean_squared_error, root_mean_squared_error, max_error
roc_auc is not exact: scores are counted in AUC_BINS bins, evenly spaced in log-odds, and count as equal within one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mlops import errors
from mlops.jobs.card import LabelType, ModelCard, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.inference import ClassCount, ShardScores
from mlops.jobs.training import Task
from mlops.ml.datasets.kinds import kind_of_type, plain_of
from mlops.ml.prediction import Outputs

AUC_BINS = 8192
# Log-odds of the outermost bins: a float64 comes no nearer to 1.
_AUC_SPAN = 37.0
_ACCEPTED = {
    LabelType.DOUBLE: (ColumnKind.NUMERIC, ColumnKind.BOOLEAN),
    LabelType.LONG: (ColumnKind.NUMERIC, ColumnKind.BOOLEAN),
    LabelType.BOOLEAN: (ColumnKind.BOOLEAN, ColumnKind.CATEGORICAL, ColumnKind.TEXT),
    LabelType.STRING: (ColumnKind.CATEGORICAL, ColumnKind.TEXT, ColumnKind.BOOLEAN),
}

Array = npt.NDArray[Any]


def check_target(name: str, kind: Any, card: ModelCard) -> None:
    """Raises DataInvalid where a column of this Arrow type cannot be what the model predicts."""
    found = kind_of_type(kind)
    if found not in _ACCEPTED[card.label_type]:
        raise errors.DataInvalid(
            f"the predictions cannot be scored against the column {name!r}: it is {found.value if found else kind},"
            f" and the model gives {card.label_type.value}",
            hint="Name the column that holds the true values, or score nothing.",
        )


def scores_of(target: Any, outputs: Outputs, card: ModelCard, classes: Sequence[str]) -> ShardScores:
    """The sums over one block of rows.

    target: a pyarrow Array (n,); outputs: of the same rows, predict among them; classes: the model's, as texts.
    """
    plain = plain_of("target", target)
    present = pc.is_valid(plain)
    if pa.types.is_floating(plain.type):
        present = pc.fill_null(pc.is_finite(plain), False)
    rows = np.flatnonzero(present.to_numpy(zero_copy_only=False))
    if not len(rows):
        return ShardScores()
    truth, prediction = plain.filter(present), outputs[PredictMethod.PREDICT][rows]
    if card.task is Task.REGRESSION:
        return _regression(truth.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), prediction)
    probabilities = outputs.get(PredictMethod.PREDICT_PROBA)
    return _classification(
        _texts(truth, card), prediction.astype(str), classes, None if probabilities is None else probabilities[rows]
    )


def added(parts: Iterable[ShardScores]) -> ShardScores:
    """The sums over all parts."""
    total = ShardScores()
    for part in parts:
        total = _sum(total, part)
    return total


def metrics(scores: ShardScores, card: ModelCard) -> dict[str, float]:
    """The metrics that the sums come to, by scikit-learn's names; empty where no row was scored."""
    if not scores.rows:
        return {}
    return _regression_metrics(scores) if card.task is Task.REGRESSION else _classification_metrics(scores)


def _texts(truth: Any, card: ModelCard) -> Array:
    """Labels as the model's classes are written: 1 and not 1.0, True and not true."""
    if card.label_type is LabelType.LONG:
        numbers = truth.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        whole = np.floor(numbers) == numbers
        found: Array = np.where(whole, numbers.astype(np.int64).astype(str), numbers.astype(str)).astype(object)
        return found
    texts = truth.cast(pa.large_string())
    if card.label_type is LabelType.BOOLEAN:
        texts = pc.utf8_capitalize(texts)
    values: Array = texts.to_numpy(zero_copy_only=False)
    return values


def _classification(
    truth: Array, prediction: Array, classes: Sequence[str], probabilities: npt.NDArray[np.float64] | None
) -> ShardScores:
    codes, labels = pd.factorize(np.concatenate([truth.astype(object), prediction.astype(object)]))
    rows, width = len(truth), len(labels)
    true, predicted = codes[:rows], codes[rows:]
    counts = zip(
        labels,
        np.bincount(true, minlength=width),
        np.bincount(predicted, minlength=width),
        np.bincount(true[true == predicted], minlength=width),
        strict=True,
    )
    found = ShardScores(
        rows=rows,
        classes={str(label): ClassCount(true=int(t), predicted=int(p), both=int(b)) for label, t, p, b in counts},
    )
    if probabilities is None or probabilities.shape[1] != len(classes):
        return found
    where = pd.Index(classes).get_indexer(pd.Index(labels))[true]
    if (where < 0).any():
        # A class that the model never saw has no probability.
        return found.model_copy(update={"log_loss_sum": float("nan")})
    epsilon = np.finfo(probabilities.dtype).eps
    likelihood = np.clip(probabilities[np.arange(rows), where], epsilon, 1 - epsilon)
    update: dict[str, Any] = {"log_loss_sum": float(-np.log(likelihood).sum())}
    if len(classes) == 2:
        bins = _bins(probabilities[:, 1])
        update |= {"auc_negatives": _counted(bins[where == 0]), "auc_positives": _counted(bins[where == 1])}
    return found.model_copy(update=update)


def _bins(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    with np.errstate(divide="ignore"):
        odds = np.log(scores) - np.log1p(-scores)
    scaled = (np.clip(odds, -_AUC_SPAN, _AUC_SPAN) + _AUC_SPAN) * (AUC_BINS / (2 * _AUC_SPAN))
    found: npt.NDArray[np.int64] = np.minimum(scaled.astype(np.int64), AUC_BINS - 1)
    return found


def _counted(bins: npt.NDArray[np.int64]) -> dict[int, int]:
    counts = np.bincount(bins, minlength=1)
    return {int(bin): int(counts[bin]) for bin in np.flatnonzero(counts)}


def _regression(truth: npt.NDArray[np.float64], prediction: npt.NDArray[np.float64]) -> ShardScores:
    errors_ = np.abs(truth - prediction)
    mean = truth.mean()
    return ShardScores(
        rows=len(truth),
        mean=float(mean),
        deviation=float(((truth - mean) ** 2).sum()),
        absolute_error_sum=float(errors_.sum()),
        squared_error_sum=float((errors_**2).sum()),
        max_error=float(errors_.max()),
    )


def _sum(one: ShardScores, other: ShardScores) -> ShardScores:
    if not one.rows or not other.rows:
        return other if not one.rows else one
    rows = one.rows + other.rows
    apart = other.mean - one.mean
    return ShardScores(
        rows=rows,
        classes=_classes(one, other),
        log_loss_sum=_both(one.log_loss_sum, other.log_loss_sum),
        auc_negatives=dict(Counter(one.auc_negatives) + Counter(other.auc_negatives)),
        auc_positives=dict(Counter(one.auc_positives) + Counter(other.auc_positives)),
        # Two samples' sums of squares around their means, combined (Chan, Golub and LeVeque 1983).
        mean=one.mean + apart * other.rows / rows,
        deviation=one.deviation + other.deviation + apart**2 * one.rows * other.rows / rows,
        absolute_error_sum=one.absolute_error_sum + other.absolute_error_sum,
        squared_error_sum=one.squared_error_sum + other.squared_error_sum,
        max_error=max(one.max_error, other.max_error),
    )


def _classes(one: ShardScores, other: ShardScores) -> dict[str, ClassCount]:
    none = ClassCount()
    pairs = {
        label: (one.classes.get(label, none), other.classes.get(label, none))
        for label in (*one.classes, *other.classes)
    }
    return {
        label: ClassCount(true=a.true + b.true, predicted=a.predicted + b.predicted, both=a.both + b.both)
        for label, (a, b) in pairs.items()
    }


def _both(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def _classification_metrics(scores: ShardScores) -> dict[str, float]:
    counts = list(scores.classes.values())
    recalls = [_ratio(count.both, count.true) for count in counts]
    found = {
        "accuracy": sum(count.both for count in counts) / scores.rows,
        "balanced_accuracy": _mean([recall for recall, count in zip(recalls, counts, strict=True) if count.true]),
        "precision_macro": _mean([_ratio(count.both, count.predicted) for count in counts]),
        "recall_macro": _mean(recalls),
        "f1_macro": _mean([_ratio(2 * count.both, count.true + count.predicted) for count in counts]),
    }
    if scores.log_loss_sum is not None and not np.isnan(scores.log_loss_sum):
        found["log_loss"] = scores.log_loss_sum / scores.rows
        if scores.auc_negatives and scores.auc_positives:
            found["roc_auc"] = _area(scores.auc_negatives, scores.auc_positives)
    return found


def _area(negatives: dict[int, int], positives: dict[int, int]) -> float:
    """The share of pairs in which the positive one scores higher; within a bin, half of them."""
    low, high = (np.zeros(AUC_BINS) for _ in range(2))
    low[list(negatives)], high[list(positives)] = list(negatives.values()), list(positives.values())
    below = np.cumsum(low) - low
    return float((high * (below + low / 2)).sum() / (low.sum() * high.sum()))


def _regression_metrics(scores: ShardScores) -> dict[str, float]:
    squared = scores.squared_error_sum / scores.rows
    found = {
        "mean_absolute_error": scores.absolute_error_sum / scores.rows,
        "mean_squared_error": squared,
        "root_mean_squared_error": float(np.sqrt(squared)),
        "max_error": scores.max_error,
    }
    # Of a target that never changes nothing can be explained; of fewer than two rows, r2 says nothing.
    if scores.rows >= 2:
        perfect = 1.0 if scores.squared_error_sum == 0 else 0.0
        found["r2"] = 1 - scores.squared_error_sum / scores.deviation if scores.deviation else perfect
    return found


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
