"""Models that a process keeps loaded between calls, the least recently used one leaving first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

from mlops.ml.prediction import Predictor

# The pool replaces a child that keeps more than 512 MiB: models stay below that.
MAX_BYTES = 384 * 1024**2


class ModelCache:
    """Predictors by directory, bounded by the bytes that they are estimated to hold.

    The last one used is kept even where it is larger than the bound: what else would the next shard do? Files in a
    model's directory never change.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self._held: OrderedDict[Path, Predictor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, directory: Path) -> Predictor:
        """The model in a directory, loaded unless it is held. Raises as Predictor.load does.

        One thread loads at a time; others wait for it.
        """
        with self._lock:
            found = self._held.get(directory)
            if found is None:
                found = self._held[directory] = Predictor.load(directory)
            self._held.move_to_end(directory)
            self._shrink()
            return found

    def drop(self, directory: Path) -> None:
        """Forgets a model, if it is held."""
        with self._lock:
            self._held.pop(directory, None)

    @property
    def held_bytes(self) -> int:
        """What all held models are estimated to hold."""
        return sum(predictor.resident_bytes for predictor in self._held.values())

    def _shrink(self) -> None:
        while len(self._held) > 1 and self.held_bytes > self.max_bytes:
            self._held.popitem(last=False)


# A child of the pool has nowhere else to keep what outlives a task.
OF_THIS_PROCESS = ModelCache()
