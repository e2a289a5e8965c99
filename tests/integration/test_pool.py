"""The process pool with real processes: what happens to one run stays with that run."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from mlops import errors
from mlops.workers import memory
from mlops.workers.pool import Outcome, ProcessPool
from tests.fixtures import pool_tasks

MIB = 1024**2
PRELOAD = ("sklearn.ensemble", "sklearn.svm", "tests.fixtures.pool_tasks")
DEADLINE = 20.0
# For pools of their own.
LIGHT = ("tests.fixtures.pool_tasks",)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool() -> AsyncIterator[ProcessPool]:
    async with ProcessPool(2, preload=PRELOAD, stop_grace=timedelta(milliseconds=200)) as pool:
        yield pool


class Progress:
    """What a run said, and a way to wait for it."""

    def __init__(self) -> None:
        self.said: list[tuple[float | None, str, dict[str, float]]] = []

    def __call__(self, fraction: float | None, message: str, values: dict[str, float]) -> None:
        self.said.append((fraction, message, values))

    async def wait_for(self, message: str) -> dict[str, float]:
        await until(lambda: any(said[1] == message for said in self.said), f"progress {message!r}")
        return next(said[2] for said in self.said if said[1] == message)

    def pids(self) -> list[int]:
        return [int(values["pid"]) for _, _, values in self.said if "pid" in values]


async def until(condition: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen in {seconds} s"
        await asyncio.sleep(0.01)


async def run(
    pool: ProcessPool,
    function: Callable[[Any, Any], Any],
    call: Any = None,
    *,
    threads: int = 1,
    memory_mib: int = 512,
    time_limit: timedelta | None = None,
    on_progress: Any = None,
    keeper: str = "",
) -> Outcome[Any]:
    async with asyncio.timeout(DEADLINE):
        return await pool.run(
            function,
            call,
            threads=threads,
            memory_bytes=memory_mib * MIB,
            time_limit=time_limit,
            on_progress=on_progress or Progress(),
            keeper=keeper,
        )


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_a_function_runs_in_a_child_and_its_value_comes_back(pool: ProcessPool) -> None:
    outcome = await run(pool, pool_tasks.echo, {"rows": [1, 2, 3]})
    assert outcome.value == {"rows": [1, 2, 3]}
    assert 0 <= outcome.seconds < 1
    assert (await run(pool, pool_tasks.pid)).value != os.getpid()


async def test_a_pool_runs_as_many_at_a_time_as_it_has_slots(pool: ProcessPool) -> None:
    await asyncio.gather(*(run(pool, pool_tasks.echo, i) for i in range(2)))
    started = time.monotonic()
    pids = [outcome.value for outcome in await asyncio.gather(*(run(pool, pool_tasks.nap, 0.2) for _ in range(4)))]
    assert len(set(pids)) == 2
    assert time.monotonic() - started >= 0.4


async def test_progress_arrives_in_order_while_the_function_runs(pool: ProcessPool) -> None:
    progress = Progress()
    await run(pool, pool_tasks.count, 4, on_progress=progress)
    assert [said[0] for said in progress.said] == [0.25, 0.5, 0.75, 1.0]
    assert progress.said[-1] == (1.0, "step 4 of 4", {"loss": 0.25})


async def test_a_talkative_function_is_thinned_out_and_its_last_word_kept(pool: ProcessPool) -> None:
    progress = Progress()
    await run(pool, pool_tasks.chatter, 50_000, on_progress=progress)
    assert len(progress.said) < 100
    assert progress.said[-1][1] == "49999"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGBUS])
async def test_a_killed_child_fails_only_its_own_job(pool: ProcessPool, number: signal.Signals) -> None:
    neighbour = asyncio.create_task(run(pool, pool_tasks.nap, 0.5))
    with pytest.raises(errors.ChildCrashed, match=number.name) as caught:
        await run(pool, pool_tasks.die_by, int(number))
    assert caught.value.retryable
    assert caught.value.details["signal"] == number.name
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"
    assert (await neighbour).value


async def test_a_segfault_and_an_exit_fail_only_their_own_job(pool: ProcessPool) -> None:
    with pytest.raises(errors.ChildCrashed, match="SIGSEGV"):
        await run(pool, pool_tasks.segfault)
    with pytest.raises(errors.ChildCrashed, match="exit code 3"):
        await run(pool, pool_tasks.leave, 3)
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"


async def test_a_pool_heals_after_many_crashes(pool: ProcessPool) -> None:
    crashes = await asyncio.gather(
        *(run(pool, pool_tasks.die_by, int(signal.SIGKILL)) for _ in range(10)), return_exceptions=True
    )
    assert all(isinstance(crash, errors.ChildCrashed) for crash in crashes)
    pids = await asyncio.gather(*(run(pool, pool_tasks.nap, 0.2) for _ in range(2)))
    assert len({outcome.value for outcome in pids}) == 2


async def test_a_child_that_dies_without_work_is_replaced(pool: ProcessPool) -> None:
    victims = {outcome.value for outcome in await asyncio.gather(*(run(pool, pool_tasks.nap, 0.2) for _ in range(2)))}
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    await until(lambda: not any(is_alive(victim) for victim in victims), "the end of the children")
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                found = await asyncio.gather(*(run(pool, pool_tasks.nap, 0.2) for _ in range(2)))
                break
            except errors.ChildCrashed:
                continue  # handed out in the instant before its death was known
    assert not victims & {outcome.value for outcome in found}


async def test_the_pool_outlives_the_process_that_forks_its_children(pool: ProcessPool) -> None:
    progress = Progress()
    running = asyncio.create_task(run(pool, pool_tasks.announce_and_nap, 60.0, on_progress=progress))
    await progress.wait_for("here")
    template = psutil.Process(progress.pids()[0]).ppid()
    os.kill(template, signal.SIGKILL)
    with pytest.raises(errors.ChildCrashed):
        await running
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"
    assert not is_alive(progress.pids()[0])


async def test_a_job_over_its_memory_limit_ends_while_its_neighbour_finishes(pool: ProcessPool) -> None:
    neighbour = asyncio.create_task(run(pool, pool_tasks.nap, 1.0))
    with pytest.raises(errors.MemoryLimitExceeded, match=r"held .* more than its limit of 64\.0 MiB") as caught:
        await run(pool, pool_tasks.grow, 1024, memory_mib=64)
    assert not caught.value.retryable
    assert caught.value.details["limit_bytes"] == 64 * MIB
    assert 64 * MIB < caught.value.details["peak_bytes"] < 400 * MIB
    assert caught.value.hint
    assert (await neighbour).value
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"


async def test_a_giant_allocation_fails_before_it_is_touched(pool: ProcessPool) -> None:
    with pytest.raises(errors.MemoryLimitExceeded, match="Unable to allocate") as caught:
        await run(pool, pool_tasks.allocate, 16 * 1024, memory_mib=128)
    assert caught.value.details["limit_bytes"] == 128 * MIB
    assert caught.value.details["peak_bytes"] < 128 * MIB


async def test_memory_of_what_a_child_started_counts(pool: ProcessPool) -> None:
    with pytest.raises(errors.MemoryLimitExceeded):
        await run(pool, pool_tasks.grow_in_a_grandchild, 200, memory_mib=100)


async def test_a_mapped_dataset_is_not_charged(pool: ProcessPool, tmp_path: Path) -> None:
    path = tmp_path / "data.arrow"
    path.write_bytes(bytes(150 * MIB))
    outcome = await run(pool, pool_tasks.read_mapped, path, memory_mib=64)
    assert outcome.peak_memory_bytes < 32 * MIB


async def test_the_peak_is_reported_without_what_the_child_held_before(pool: ProcessPool) -> None:
    assert (await run(pool, pool_tasks.echo)).peak_memory_bytes < 16 * MIB
    peak = (await run(pool, pool_tasks.grow, 160)).peak_memory_bytes
    assert 120 * MIB < peak < 200 * MIB


async def test_a_child_that_keeps_much_memory_is_replaced_and_one_that_keeps_little_is_not() -> None:
    async with ProcessPool(1, preload=LIGHT, idle_memory_bytes=64 * MIB) as pool:
        first = (await run(pool, pool_tasks.pid)).value
        await run(pool, pool_tasks.hold, 16)
        assert (await run(pool, pool_tasks.pid)).value == first
        await run(pool, pool_tasks.hold, 100)
        assert (await run(pool, pool_tasks.pid)).value != first


async def test_a_job_over_its_time_limit_is_killed(pool: ProcessPool) -> None:
    started = time.monotonic()
    with pytest.raises(errors.TimeLimitExceeded, match=r"0\.3 s"):
        await run(pool, pool_tasks.fit_svc, 6000, time_limit=timedelta(seconds=0.3))
    assert time.monotonic() - started < 2
    assert (await run(pool, pool_tasks.echo, "next", time_limit=timedelta(seconds=5))).value == "next"


async def test_cancelling_an_svc_frees_the_slot_within_a_second() -> None:
    async with ProcessPool(1, preload=PRELOAD, stop_grace=timedelta(milliseconds=200)) as pool:
        progress = Progress()
        fit = asyncio.create_task(run(pool, pool_tasks.fit_svc, 6000, on_progress=progress))
        pid = int((await progress.wait_for("fitting"))["pid"])
        await until(lambda: psutil.Process(pid).cpu_times().user > 0.2, "the fit")
        started = time.monotonic()
        fit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fit
        assert not is_alive(pid)
        assert (await run(pool, pool_tasks.echo, "next")).value == "next"
        assert time.monotonic() - started < 1


async def test_a_cancelled_function_may_clean_up(pool: ProcessPool, tmp_path: Path) -> None:
    marker, progress = tmp_path / "marker", Progress()
    task = asyncio.create_task(run(pool, pool_tasks.clean_up_when_stopped, marker, on_progress=progress))
    await progress.wait_for("started")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert marker.read_text() == "clean"


async def test_cancelling_again_does_not_leave_the_child_behind(pool: ProcessPool) -> None:
    progress = Progress()
    task = asyncio.create_task(run(pool, pool_tasks.ignore_signals_and_nap, on_progress=progress))
    await progress.wait_for("deaf")
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pids = await asyncio.gather(*(run(pool, pool_tasks.nap, 0.1) for _ in range(2)))
    assert len({outcome.value for outcome in pids}) == 2


async def test_cancelling_a_run_that_waits_for_a_slot_costs_no_slot() -> None:
    async with ProcessPool(1, preload=LIGHT) as pool:
        first = asyncio.create_task(run(pool, pool_tasks.nap, 0.3))
        waiting = asyncio.create_task(run(pool, pool_tasks.echo, "never"))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        pid = (await first).value
        assert (await run(pool, pool_tasks.pid)).value == pid


async def test_grandchildren_die_with_their_child(pool: ProcessPool) -> None:
    progress = Progress()
    task = asyncio.create_task(run(pool, pool_tasks.start_grandchildren, on_progress=progress))
    await progress.wait_for("all")
    grandchildren = progress.pids()
    assert len(grandchildren) == 2
    assert all(is_alive(pid) for pid in grandchildren)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(is_alive(pid) for pid in grandchildren), "the end of the grandchildren", 2)


async def test_a_listener_that_fails_ends_the_run(pool: ProcessPool) -> None:
    def broken(fraction: float | None, message: str, values: dict[str, float]) -> None:
        raise RuntimeError("no one listens")

    with pytest.raises(RuntimeError, match="no one listens"):
        await run(pool, pool_tasks.announce_and_nap, 60.0, on_progress=broken)
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"


async def test_an_error_of_ours_arrives_as_itself(pool: ProcessPool) -> None:
    with pytest.raises(errors.DataInvalid, match="no rows") as caught:
        await run(pool, pool_tasks.refuse_data, "no rows")
    assert (caught.value.step, caught.value.hint) == ("fold-1", "look at column x")


async def test_a_foreign_error_arrives_as_a_failed_fit_with_its_class(pool: ProcessPool) -> None:
    with pytest.raises(errors.FitFailed, match=r"^Input X contains NaN$") as caught:
        await run(pool, pool_tasks.fail, "Input X contains NaN")
    assert caught.value.error_class == "ValueError"


async def test_what_cannot_be_sent_is_a_clear_error(pool: ProcessPool) -> None:
    with pytest.raises(errors.Internal, match="cannot be pickled"):
        await run(pool, pool_tasks.unpicklable)
    with pytest.raises(errors.Internal, match="pass a file"):
        await run(pool, pool_tasks.huge_result, 65)
    with pytest.raises(errors.DataInvalid, match="bad"):
        await run(pool, pool_tasks.unpicklable_error, "bad")
    with pytest.raises((pickle.PicklingError, AttributeError)):
        await run(pool, lambda call, report: None)
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"


@pytest.mark.parametrize("threads", [1, 2])
async def test_threads_follow_the_cpus_asked_for(pool: ProcessPool, threads: int) -> None:
    counts = (await run(pool, pool_tasks.thread_counts, threads=threads)).value
    cores = len(os.sched_getaffinity(0))
    assert counts.pop("joblib") == min(threads, cores)
    assert len(counts) >= 3
    assert set(counts.values()) == {threads}


async def test_a_child_that_had_more_threads_goes_back_to_one() -> None:
    async with ProcessPool(1, preload=PRELOAD) as pool:
        assert (await run(pool, pool_tasks.threads_at_work)).value == 1
        assert (await run(pool, pool_tasks.threads_at_work, threads=2)).value > 1
        counts = (await run(pool, pool_tasks.thread_counts)).value
        assert set(counts.values()) == {1}


async def test_children_do_not_draw_the_same_numbers(pool: ProcessPool) -> None:
    drawn = await asyncio.gather(*(run(pool, pool_tasks.draw) for _ in range(2)))
    again = await asyncio.gather(*(run(pool, pool_tasks.draw) for _ in range(2)))
    assert len({outcome.value for outcome in (*drawn, *again)}) == 4


async def test_signals_to_all_processes_of_a_worker_do_not_reach_a_job(pool: ProcessPool) -> None:
    progress = Progress()
    task = asyncio.create_task(run(pool, pool_tasks.announce_and_nap, 0.4, on_progress=progress))
    pid = int((await progress.wait_for("here"))["pid"])
    child = psutil.Process(pid)
    assert os.getpgid(pid) == pid != os.getpgid(0)
    for process in (pid, child.ppid()):
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(process, number)
    await task


async def test_closing_waits_for_its_grace_and_then_ends_what_runs() -> None:
    pool = ProcessPool(3, preload=LIGHT, stop_grace=timedelta(milliseconds=200))
    await pool.start()
    progress = Progress()
    short = asyncio.create_task(run(pool, pool_tasks.nap, 0.3))
    long = asyncio.create_task(run(pool, pool_tasks.announce_and_nap, 60.0, on_progress=progress))
    deaf = asyncio.create_task(run(pool, pool_tasks.ignore_signals_and_nap))
    waiting = asyncio.create_task(run(pool, pool_tasks.echo))
    await progress.wait_for("here")
    template = psutil.Process(progress.pids()[0]).ppid()
    started = time.monotonic()
    await pool.close(timedelta(seconds=0.8))
    assert time.monotonic() - started < 3
    assert (await short).value
    for task in (long, deaf, waiting):
        with pytest.raises(errors.ChildCrashed, match="shutting down"):
            await task
    with pytest.raises(errors.ChildCrashed, match="shutting down"):
        await run(pool, pool_tasks.echo)
    assert not is_alive(template)
    assert not is_alive(progress.pids()[0])


async def test_a_module_that_cannot_be_imported_fails_the_start() -> None:
    with pytest.raises(errors.Internal, match="cannot start"):
        await ProcessPool(1, preload=("mlops.no_such_module",)).start()


async def test_a_pool_without_slots_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one slot"):
        ProcessPool(0)


WORKER = """
import asyncio, json, os, sys
from datetime import timedelta
from mlops.workers.pool import ProcessPool
from tests.fixtures import pool_tasks

def say(fraction, message, values):
    print(json.dumps([message, values]), flush=True)

async def main():
    async with ProcessPool(1, preload=("tests.fixtures.pool_tasks",)) as pool:
        await pool.run(
            pool_tasks.start_grandchildren, None, threads=1, memory_bytes=2**30, time_limit=None, on_progress=say
        )

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_children_die_with_the_worker(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    root = Path(__file__).parents[2]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, str(script), cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert worker.stdout is not None
        pids: list[int] = []
        async with asyncio.timeout(DEADLINE):
            while (line := json.loads(await worker.stdout.readline()))[0] != "all":
                pids.append(int(line[1]["pid"]))
        child = psutil.Process(pids[0]).ppid()
        pids += [child, psutil.Process(child).ppid()]
        assert all(is_alive(pid) for pid in pids)
        os.kill(worker.pid, number)
        await until(lambda: not any(is_alive(pid) for pid in pids), "the end of every process", 5)
    finally:
        if worker.returncode is None:
            worker.kill()
        await worker.communicate()


async def test_the_fallback_for_systems_without_proc_measures_the_same_group(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "HAS_PROC", False)
    monkeypatch.setattr(memory, "HAS_CHILDREN", False)
    with pytest.raises(errors.MemoryLimitExceeded):
        await run(pool, pool_tasks.grow_in_a_grandchild, 200, memory_mib=100)
    assert (await run(pool, pool_tasks.echo, "next")).value == "next"


async def test_a_keeper_finds_what_its_last_run_loaded_and_nobody_else_does() -> None:
    async with ProcessPool(2, preload=LIGHT, stop_grace=timedelta(milliseconds=200)) as own:
        first = (await run(own, pool_tasks.remember, "model of a", keeper="a")).value
        assert first == []
        assert (await run(own, pool_tasks.remember, "more of a", keeper="a")).value == ["model of a"]
        assert (await run(own, pool_tasks.remember, "model of b", keeper="b")).value == []
        # Both slots keep something now: whoever keeps nothing still gets a child, and a fresh one.
        assert (await run(own, pool_tasks.remember, "of nobody")).value == []


async def test_many_keepers_share_few_slots() -> None:
    async with ProcessPool(2, preload=LIGHT, stop_grace=timedelta(milliseconds=200)) as own:
        keepers = [f"tenant-{index % 5}" for index in range(20)]
        found = await asyncio.gather(*(run(own, pool_tasks.owners, keeper, keeper=keeper) for keeper in keepers))
        for keeper, outcome in zip(keepers, found, strict=True):
            assert set(outcome.value) <= {keeper}


async def test_a_child_that_keeps_too_much_is_replaced() -> None:
    async with ProcessPool(1, preload=LIGHT, kept_memory_bytes=64 * MIB) as own:
        small = (await run(own, pool_tasks.keep_megabytes, 20, keeper="a")).value
        assert (await run(own, pool_tasks.keep_megabytes, 100, keeper="a")).value == small
        assert (await run(own, pool_tasks.pid, keeper="a")).value != small
