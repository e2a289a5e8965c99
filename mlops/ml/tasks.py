"""Counts the tasks that joblib completes: the trees of a forest, the candidates of a search."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import joblib

# done in this run of joblib.Parallel, tasks completed in the runs before it
OnTask = Callable[[int, int], None]


@contextmanager
def counted(on_task: OnTask) -> Iterator[None]:
    """Calls `on_task(done, before)` whenever the outermost joblib.Parallel has completed a task.

    joblib calls print_progress for each completed task, on every backend, and keeps the count itself; that
    method is wrapped for the time of the context, in this process only. Runs nested in a task do not count.
    """
    call, print_progress = joblib.Parallel.__call__, joblib.Parallel.print_progress
    lock = threading.Lock()
    outermost: list[Any] = []
    before = 0

    def counting_call(self: Any, iterable: Any) -> Any:
        nonlocal before
        with lock:
            is_outermost = not outermost
            if is_outermost:
                outermost.append(self)
        try:
            return call(self, iterable)
        finally:
            if is_outermost:
                with lock:
                    outermost.clear()
                    before += self.n_completed_tasks

    def counting_progress(self: Any) -> None:
        print_progress(self)
        if outermost and outermost[0] is self and self.n_completed_tasks:
            on_task(self.n_completed_tasks, before)

    joblib.Parallel.__call__ = counting_call
    joblib.Parallel.print_progress = counting_progress
    try:
        yield
    finally:
        joblib.Parallel.__call__ = call
        joblib.Parallel.print_progress = print_progress
