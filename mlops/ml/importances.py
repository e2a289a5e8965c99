"""How much each feature matters to a fitted model."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline
from sklearn.utils import check_random_state

from mlops.jobs.report import Importance
from mlops.jobs.value import Value
from mlops.ml.observation import layers

MAX_ROWS = 2000
MIN_ROWS = 200
MAX_REPEATS = 5
MAX_FEATURES = 500
# Of the largest importances, so many are kept.
MAX_KEPT = 100

PERMUTATION = "permutation"
IMPURITY = "impurity"


class Importances(Value):
    """Largest first. `kind` is permutation or impurity, or empty where the model and the data give neither."""

    kind: str = ""
    features: tuple[Importance, ...] = ()
    # Why there are none, or fewer than usual.
    remark: str = ""


def by_permutation(
    model: Any,
    features: pd.DataFrame,
    target: npt.NDArray[Any],
    *,
    scorer: str,
    seed: int,
    seconds_a_row: float,
    budget_seconds: float,
) -> Importances:
    """How much the score falls when one column is shuffled (Breiman 2001), on at most MAX_ROWS rows.

    seconds_a_row: what a prediction of one row was seen to take. Where the usual effort would exceed the budget,
    repeats are cut first and rows then; where even the least does, nothing is computed and the remark says so.
    """
    width = features.shape[1]
    if width > MAX_FEATURES:
        return Importances(remark=f"no permutation importances: {width} features are more than {MAX_FEATURES}")
    rows, repeats = min(len(features), MAX_ROWS), MAX_REPEATS
    affordable = budget_seconds / max(seconds_a_row * width, 1e-12)
    while repeats > 1 and rows * repeats > affordable:
        repeats -= 1
    if rows * repeats > affordable:
        rows = int(affordable)
    if rows < min(MIN_ROWS, len(features)):
        return Importances(remark="no permutation importances: this model predicts too slowly")
    chosen = np.sort(check_random_state(seed).permutation(len(features))[:rows])
    result = permutation_importance(
        model, features.iloc[chosen], target[chosen], scoring=scorer, n_repeats=repeats, random_state=seed
    )
    return Importances(
        kind=PERMUTATION,
        features=_largest(list(features.columns), result.importances_mean, result.importances_std),
    )


def by_impurity(model: Any, names: list[str]) -> Importances:
    """What a tree ensemble knows of itself: each feature's share of the impurity removed while it was fitted.

    Named after what reached the ensemble: of a pipeline, the transformed columns. Leans towards features of
    many distinct values (Strobl et al. 2007).
    """
    chain = [inner for _, inner in layers(model, fitted=True)]
    predictor = chain[-1]
    values = getattr(predictor, "feature_importances_", None)
    if values is None:
        return Importances()
    for outer in chain[:-1]:
        if isinstance(outer, Pipeline) and len(outer.steps) > 1:
            try:
                names = [str(name) for name in outer[:-1].get_feature_names_out(names)]
            except (AttributeError, ValueError, TypeError):
                # A transformer without names for its output: positions are all there is.
                names = []
    if len(names) != len(values):
        names = [f"feature {index}" for index in range(len(values))]
    return Importances(kind=IMPURITY, features=_largest(names, np.asarray(values), np.zeros(len(values))))


def _largest(
    names: list[Any], means: npt.NDArray[np.float64], deviations: npt.NDArray[np.float64]
) -> tuple[Importance, ...]:
    order = np.argsort(-means, kind="stable")[:MAX_KEPT]
    return tuple(
        Importance(feature=str(names[i]), importance=float(means[i]), deviation=float(deviations[i])) for i in order
    )
