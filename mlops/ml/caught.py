"""What scikit-learn and numpy warn of while a step runs, as texts for its report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mlops.ml.failures import bounded

MAX_WARNINGS = 20
MAX_WARNING = 500
# They are about the code that calls, not about the data or the model.
_NOT_FOR_USERS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


@contextmanager
def collected() -> Iterator[list[warnings.WarningMessage]]:
    """Keeps the warnings of the block instead of printing them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield caught


def texts_of(caught: Sequence[warnings.WarningMessage], problems: Sequence[str] = ()) -> tuple[str, ...]:
    """Each problem and each warning once, in the order of its first appearance; at most MAX_WARNINGS."""
    texts = [
        f"{warning.category.__name__}: {bounded(str(warning.message), MAX_WARNING)}"
        for warning in caught
        if not issubclass(warning.category, _NOT_FOR_USERS)
    ]
    return tuple(dict.fromkeys((*problems, *texts)))[:MAX_WARNINGS]
