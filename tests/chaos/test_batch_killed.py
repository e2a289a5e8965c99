"""A batch job whose platform dies under it, part by part, gives what an undisturbed one gives."""

from __future__ import annotations

import time
from collections.abc import Callable

import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier

from mlops import errors
from mlops.client.blocking.batchhandle import BatchHandle
from mlops.jobs.dataset import Dataset
from mlops.jobs.job import JobState
from tests.fixtures.chaos import RECOVERY_SECONDS, Bench, noisy

SHARDS, ROWS_PER_SHARD = 200, 100
# What is killed, and after which share of the rows.
KILLS = (("worker-cpu", 0.05), ("worker-io", 0.2), ("temporal", 0.35), ("serving", 0.5), ("gateway", 0.6))


def start(bench: Bench, dataset: Dataset) -> BatchHandle:
    return bench.client.predict_batch(
        "forest",
        dataset,
        outputs=["predict", "predict_proba"],
        carry=["x0"],
        rows_per_shard=ROWS_PER_SHARD,
        on_bad_row="reject",
    )


def done_share(job: BatchHandle) -> float:
    """Of the rows, as told now; a gateway that is away is asked again."""
    try:
        steps = {step.step: step for step in job.refresh().steps}
    except errors.Unavailable:
        return 0.0
    return 1.0 if job.status.is_final else (steps["predict"].fraction or 0.0) if "predict" in steps else 0.0


@pytest.mark.timeout(420)
def test_every_part_killed_during_a_batch_of_200_shards_changes_no_row(bench: Callable[[], Bench]) -> None:
    own = bench()
    # Many small trees: a shard takes some tenths of a second, the model little room.
    forest = RandomForestClassifier(1000, max_depth=3, random_state=0)
    own.start(forest, name="forest", holdout=0.2).wait(timeout=RECOVERY_SECONDS)
    table = noisy(SHARDS * ROWS_PER_SHARD).drop(columns="y")
    # Every shard has a row that cannot be predicted.
    table.loc[table.index % ROWS_PER_SHARD == 7, "x3"] = float("inf")
    dataset = own.client.datasets.upload(table, name="large")
    calm = start(own, dataset)
    calm.wait(timeout=RECOVERY_SECONDS)
    stormy = start(own, dataset)
    for part, share in KILLS:
        deadline = time.monotonic() + RECOVERY_SECONDS
        while done_share(stormy) < share:
            assert time.monotonic() < deadline, f"the batch did not get to {share:.0%} before {part} was to be killed"
            time.sleep(0.05)
        assert not stormy.status.is_final, f"the batch was over before {part} was killed"
        own.stack.kill_part(part)
    result = stormy.wait(timeout=2 * RECOVERY_SECONDS)
    assert stormy.refresh().state is JobState.SUCCEEDED
    assert (result.report.rows, result.report.rejected_rows) == (SHARDS * ROWS_PER_SHARD, SHARDS)
    assert len(result.report.files) == SHARDS
    pd.testing.assert_frame_equal(stormy.result(), calm.result())
    assert stormy.result()["row"].is_monotonic_increasing
