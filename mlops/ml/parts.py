"""The estimators that a model is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator


def parts_of(model: Any) -> Iterator[BaseEstimator]:
    """Every estimator inside the model, itself included. Each is looked into only after it was handed out."""
    waiting, seen = [model], set()
    while waiting:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        if isinstance(found, BaseEstimator):
            yield found
            waiting.extend(vars(found).values())
        elif isinstance(found, dict):
            waiting.extend(found.values())
        elif isinstance(found, list | tuple) or (isinstance(found, np.ndarray) and found.dtype == object):
            waiting.extend(found)
