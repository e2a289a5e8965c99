"""Reads what scikit-learn prints when it is asked to be verbose.

Printing a line an iteration is public behaviour of the estimators named here, costs microseconds and changes
no result; splitting a fit into warm-started chunks costs 1.3 to 2 times its time.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass

PIPELINE_STEP = re.compile(r"\(step (?P<step>\d+) of (?P<total>\d+)\) Processing (?P<name>.*?)(?:, total=|$)")


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one family of estimators prints its iterations.

    line: groups named in `values` become numbers, the group `step` the iteration (else lines are counted).
    total: the parameter that bounds the iterations.
    """

    verbose: int
    line: re.Pattern[str]
    unit: str
    total: str
    values: tuple[str, ...] = ()
    # joblib chats on standard error at this verbosity.
    chats: bool = False


_HIST_GRADIENT_BOOSTING = Dialect(
    verbose=2,
    line=re.compile(
        r"^\[(?P<step>\d+)/\d+\] .*?(?:train loss: (?P<loss>[-\d.einf]+), )?(?:val loss: (?P<validation_loss>[-\d.einf]+), )?"
        r"(?:train score: (?P<score>[-\d.einf]+), )?(?:val score: (?P<validation_score>[-\d.einf]+), )?in [\d.]+s$"
    ),
    unit="iteration",
    total="max_iter",
    values=("loss", "validation_loss", "score", "validation_score"),
)
_MULTI_LAYER_PERCEPTRON = Dialect(
    verbose=1,
    line=re.compile(r"^Iteration (?P<step>\d+), loss = (?P<loss>\S+)$"),
    unit="iteration",
    total="max_iter",
    values=("loss",),
)
_STOCHASTIC_GRADIENT_DESCENT = Dialect(
    verbose=1,
    line=re.compile(r"^Norm: .*Avg\. loss: (?P<loss>[^,\s]+)"),
    unit="epoch",
    total="max_iter",
    values=("loss",),
)
_BAGGING = Dialect(
    verbose=2,
    line=re.compile(r"^Building estimator \d+ of \d+ for this parallel run"),
    unit="estimator",
    total="n_estimators",
    chats=True,
)

# By class name, so that nothing is imported that the job does not use.
DIALECTS: dict[str, Dialect] = {
    "HistGradientBoostingClassifier": _HIST_GRADIENT_BOOSTING,
    "HistGradientBoostingRegressor": _HIST_GRADIENT_BOOSTING,
    "MLPClassifier": _MULTI_LAYER_PERCEPTRON,
    "MLPRegressor": _MULTI_LAYER_PERCEPTRON,
    "SGDRegressor": _STOCHASTIC_GRADIENT_DESCENT,
    "BaggingClassifier": _BAGGING,
    "BaggingRegressor": _BAGGING,
}


def dialect_of(kind: str, *, classes: int) -> Dialect | None:
    """The dialect of the class named `kind`; `classes`: how many the target has."""
    # With more than two classes there is one run a class, interleaved; joblib counts those.
    if kind == "SGDClassifier" and classes == 2:
        return _STOCHASTIC_GRADIENT_DESCENT
    return DIALECTS.get(kind)


class LineReader(io.TextIOBase):
    """A standard output that hands each finished line to a function, and keeps nothing."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        super().__init__()
        self._on_line = on_line
        self._open = ""

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Takes text as it is printed."""
        *lines, self._open = (self._open + text).split("\n")
        for line in lines:
            self._on_line(line)
        return len(text)
