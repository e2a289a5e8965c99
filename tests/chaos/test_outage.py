"""Temporal is away at the very moment at which a long fit is done."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.ensemble import GradientBoostingRegressor
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client as TemporalClient

from mlops import names
from mlops.jobs.job import StepState
from tests.fixtures.stack import RunningStack

# The SDK's worker gives up a completion after about ten seconds.
OUTAGE_AFTER_THE_FIT_SECONDS = 11.5


def test_a_fit_that_ends_while_temporal_is_away_is_not_done_again(
    stack: RunningStack, until: Callable[..., None]
) -> None:
    slug, key = stack.new_tenant()
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(size=(20_000, 10)), columns=[f"x{i}" for i in range(10)])
    frame["y"] = frame.sum(axis=1)
    with stack.client(key) as client:
        dataset = client.datasets.upload(frame, name="sums")
        job = client.train(GradientBoostingRegressor(n_estimators=150), dataset, target="y", name="sums")
        for event in job.watch():
            step = event.step
            if step and step.step == names.FIT_STEP and step.state is StepState.RUNNING and (step.fraction or 0) > 0.7:
                break
        done = stack.directory / "storage" / names.step_key(slug, job.id, names.FIT_STEP, names.STEP_RESULT)
        assert not done.exists(), "the fit was quicker than this test; give it more trees"
        temporal = stack.pid("temporal")
        os.kill(temporal, signal.SIGSTOP)
        try:
            until(done.exists, seconds=60)
            time.sleep(OUTAGE_AFTER_THE_FIT_SECONDS)
        finally:
            os.kill(temporal, signal.SIGCONT)
        result = job.wait(timeout=120)
    assert result.model_version == 1
    assert asyncio.run(_tries(stack, slug, job.id)) == [1]


async def _tries(stack: RunningStack, tenant: str, job_id: str) -> list[int]:
    """The attempt numbers of the final fit, as the history has them."""
    address = f"127.0.0.1:{stack.config.ports.temporal}"
    client = await TemporalClient.connect(address, namespace=names.namespace(tenant))
    scheduled: set[int] = set()
    tries: list[int] = []
    async for event in client.get_workflow_handle(job_id).fetch_history_events():
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
            if event.activity_task_scheduled_event_attributes.activity_id == names.FIT_STEP:
                scheduled.add(event.event_id)
        elif event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
            started = event.activity_task_started_event_attributes
            if started.scheduled_event_id in scheduled:
                tries.append(started.attempt)
    return tries
