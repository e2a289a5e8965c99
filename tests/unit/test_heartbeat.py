"""How often a step's heart beats."""

from __future__ import annotations

import asyncio

from temporalio.testing import ActivityEnvironment

from mlops.activities import heartbeat
from mlops.activities.heartbeat import Heartbeat, interval
from mlops.jobs.job import StepState


def test_a_running_step_hears_of_a_cancellation_in_time_to_free_its_core_within_a_second() -> None:
    assert interval(StepState.RUNNING, 0.0) <= 0.3
    assert interval(StepState.RUNNING, 3600.0) <= 0.7


def test_a_step_that_has_long_waited_beats_less_often_than_one_at_work() -> None:
    assert interval(StepState.WAITING, 3600.0) > interval(StepState.RUNNING, 3600.0)


async def test_a_step_that_gets_its_cores_says_so_at_once() -> None:
    beats: asyncio.Queue[StepState] = asyncio.Queue()
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda progress: beats.put_nowait(progress.state)

    async def step() -> None:
        async with Heartbeat("fold-0") as beat:
            assert await beats.get() is StepState.WAITING
            beat.show(StepState.RUNNING)
            async with asyncio.timeout(heartbeat.INTERVAL_SECONDS / 2):
                assert await beats.get() is StepState.RUNNING

    await environment.run(step)
