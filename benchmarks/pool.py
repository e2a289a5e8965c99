"""The process pool: round trip, recovery, cancellation, memory; beside concurrent.futures' ProcessPoolExecutor."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from datetime import timedelta
from typing import Any

import psutil

from benchmarks.report import report
from mlops.errors import ChildCrashed
from mlops.workers.pool import ProcessPool
from tests.fixtures import pool_tasks

PRELOAD = ("sklearn.ensemble", "sklearn.linear_model", "sklearn.svm", "tests.fixtures.pool_tasks")
NOOPS = 500
ROUNDS = 9
SVC_ROWS = 6000
MIB = 1024**2


def echo(call: Any) -> Any:
    """What the executor runs."""
    return pool_tasks.echo(call, None)


def die(call: Any) -> None:
    pool_tasks.die_by(signal.SIGKILL, None)


def small_fit_in_executor(call: Any) -> int:
    return pool_tasks.small_fit(call, None)


def median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


async def main() -> None:
    """Measures both, and prints."""
    noop, crash, cancel, child, template = await ours()
    executor_noop, executor_crash, executor_child = await asyncio.to_thread(executors)
    report(
        "Process pool",
        columns=("", "mlops", "ProcessPoolExecutor"),
        rows=(
            ("no-op round trip, p50 (ms)", noop, executor_noop),
            ("SIGKILL of a child to the next result on that core (ms)", crash, executor_crash),
            ("cancel of a deaf SVC to the next result on that core (ms)", cancel, "never"),
            ("a child's own memory after a small fit (MiB)", child, executor_child),
            ("shared by all children (MiB)", template, "the same"),
        ),
        figures={
            "noop_p50_ms": noop,
            "crash_to_next_ms": crash,
            "cancel_to_free_ms": cancel,
            "child_mb": child,
        },
        notes=(
            f"Medians: {NOOPS} no-ops, {ROUNDS} rounds of the rest. One slot; scikit-learn is imported beforehand.",
            "The SVC fits in C and does not hear the request to stop, so it is killed after the grace of 300 ms.",
            "A killed child breaks an executor for every job on it: its figure is that of a new executor.",
            "A running call of an executor cannot be cancelled.",
        ),
    )


async def ours() -> tuple[float, float, float, float, float]:
    async with ProcessPool(1, preload=PRELOAD, stop_grace=timedelta(milliseconds=300)) as pool:

        async def run(function: Callable[[Any, Any], Any], call: Any, on_progress: Any = lambda *said: None) -> Any:
            outcome = await pool.run(
                function, call, threads=1, memory_bytes=1024 * MIB, time_limit=None, on_progress=on_progress
            )
            return outcome.value

        noops, crashes, cancels = [], [], []
        for _ in range(NOOPS):
            started = time.perf_counter()
            await run(pool_tasks.echo, 1)
            noops.append(time.perf_counter() - started)
        for _ in range(ROUNDS):
            started = time.perf_counter()
            try:
                await run(pool_tasks.die_by, int(signal.SIGKILL))
            except ChildCrashed:
                await run(pool_tasks.echo, 1)
            crashes.append(time.perf_counter() - started)
        for _ in range(ROUNDS):
            fitting = asyncio.Event()
            fit = asyncio.create_task(run(pool_tasks.fit_svc, SVC_ROWS, lambda *said, e=fitting: e.set()))
            await fitting.wait()
            await asyncio.sleep(0.3)
            started = time.perf_counter()
            fit.cancel()
            await run(pool_tasks.echo, 1)
            cancels.append(time.perf_counter() - started)
        child = psutil.Process(await run(pool_tasks.small_fit, None))
        shared = psutil.Process(child.ppid()).memory_full_info().rss
        return (
            median_ms(noops),
            median_ms(crashes),
            median_ms(cancels),
            child.memory_full_info().uss / MIB,
            shared / MIB,
        )


def executors() -> tuple[float, float, float]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOAD, "benchmarks.report", "mlops.workers.pool"])

    def fresh() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=context)

    noops, crashes = [], []
    with fresh() as executor:
        executor.submit(echo, 1).result()
        for _ in range(NOOPS):
            started = time.perf_counter()
            executor.submit(echo, 1).result()
            noops.append(time.perf_counter() - started)
        memory = psutil.Process(executor.submit(small_fit_in_executor, None).result()).memory_full_info().uss
    for _ in range(ROUNDS):
        with fresh() as executor:
            executor.submit(echo, 1).result()
            started = time.perf_counter()
            try:
                executor.submit(die, None).result()
            except BrokenProcessPool:
                with fresh() as another:
                    another.submit(echo, 1).result()
                    crashes.append(time.perf_counter() - started)
        gc.collect()
    return median_ms(noops), median_ms(crashes), memory / MIB


if __name__ == "__main__":
    asyncio.run(main())
