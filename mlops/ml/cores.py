"""Holds what joblib computes inside a block to the cores that the job was given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import joblib


@contextmanager
def on_cores(cpus: int) -> Iterator[None]:
    """Threads, never processes: joblib's own children would outlive this one, and hold the data again."""
    with joblib.parallel_config(backend="threading", n_jobs=cpus):
        yield
