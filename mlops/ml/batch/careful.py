"""Predicts rows of which some may make the model fail, and finds those."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops.errors import FitFailed
from mlops.jobs.card import Engine, PredictMethod
from mlops.ml.failures import bounded, hint_for
from mlops.ml.prediction import Inputs, Outputs, Predictor, rows_of, take

# A search for the rows at fault ends in failure beyond either: a model that fails on so many has another problem.
MAX_CALLS = 2000
MAX_SECONDS = 60.0
# A model that runs out of memory with so few rows has too little of it.
MIN_ROWS_AT_ONCE = 256
# So few rows are soon tried one by one.
FEW_ROWS = 16
_REASON_CHARACTERS = 300


@dataclass(frozen=True, kw_only=True)
class Answered:
    """outputs: of the rows that `failed` does not name, in their order; failed: position to the reason."""

    outputs: Outputs
    failed: dict[int, str]


class Careful:
    """A predictor whose failures are pinned on rows, within a budget for all of its calls together."""

    def __init__(self, predictor: Predictor, methods: Sequence[PredictMethod], engine: Engine) -> None:
        self._predictor = predictor
        self._methods = tuple(methods)
        self._engine = engine
        self._most_rows = sys.maxsize
        self._calls = 0
        self._has_predicted = False
        self._deadline = 0.0

    def predict(self, inputs: Inputs, rows: int, *, first_only: bool = False) -> Answered:
        """All rows at once; where that fails, halves of them, and so on.

        first_only: stop at the first row that fails; there are no outputs then. Raises FitFailed where the model
        fails on every row that was tried, or the budget is used up; MemoryError where even few rows are too many.
        """
        found = self._try(inputs)
        if not isinstance(found, Exception):
            return Answered(outputs=found, failed={})
        self._give_up_if_hopeless(inputs, rows, found)
        self._deadline = self._deadline or time.monotonic() + MAX_SECONDS
        parts: list[Outputs] = []
        failed: dict[int, str] = {}
        waiting = [(0, rows)]
        while waiting and not (first_only and failed):
            start, stop = waiting.pop()
            found = self._try(take(inputs, slice(start, stop)))
            self._calls += 1
            if not isinstance(found, Exception):
                parts.append(found)
            elif self._calls > MAX_CALLS or time.monotonic() > self._deadline:
                raise _failed(found, f"too many rows make the model fail ({len(failed)} were found)") from found
            elif stop - start > 1:
                half = (start + stop) // 2
                waiting += [(half, stop), (start, half)]
            else:
                failed[start] = f"the model failed: {type(found).__name__}: {bounded(str(found), _REASON_CHARACTERS)}"
        return Answered(outputs=_joined(parts), failed=failed)

    def _try(self, inputs: Inputs) -> Outputs | Exception:
        try:
            return self._outputs(inputs)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an estimator raises at a row, it failed
            return error

    def _outputs(self, inputs: Inputs) -> Outputs:
        """All rows at once, or in as many pieces as memory allows from here on: kernels hold a number for each row
        and each row of training.
        """
        rows = rows_of(inputs)
        start, parts = 0, []
        while start < rows:
            stop = min(start + self._most_rows, rows)
            part = inputs if stop - start == rows else take(inputs, slice(start, stop))
            try:
                parts.append(self._predictor.predict(part, self._methods, engine=self._engine).outputs)
            except MemoryError:
                if stop - start <= MIN_ROWS_AT_ONCE:
                    raise
                self._most_rows = (stop - start) // 2
            else:
                start = stop
                self._has_predicted = True
        return _joined(parts)

    def _give_up_if_hopeless(self, inputs: Inputs, rows: int, error: Exception) -> None:
        """Raises where nothing was ever predicted, and the first, the middle and the last row fail each for itself.

        No row is at fault then. A block of bad rows behind good ones is just that.
        """
        if self._has_predicted or rows < FEW_ROWS:
            return
        tried = (self._try(take(inputs, slice(row, row + 1))) for row in {0, rows // 2, rows - 1})
        if all(isinstance(found, Exception) for found in tried):
            raise _failed(error, "the model fails on every row that was tried") from error


def _failed(error: Exception, what: str) -> FitFailed:
    message = bounded(str(error)) or "no message"
    return FitFailed(f"predict failed: {what}: {message}", error_class=type(error).__name__, hint=hint_for(message))


def _joined(parts: Sequence[Outputs]) -> Outputs:
    if not parts:
        return {}
    return {method: _concatenated([part[method] for part in parts]) for method in parts[0]}


def _concatenated(arrays: list[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
