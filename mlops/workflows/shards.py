"""The shards of a batch job: a sliding window over the CPU queue, continued as new after every few hundred."""

from __future__ import annotations

import asyncio
from datetime import datetime

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mlops import names
    from mlops.jobs.inference import ShardDone, ShardOrder, ShardsDone, ShardsJob, ShardsProgress
    from mlops.workflows import policies
    from mlops.workflows.orders import batch_order
    from mlops.workflows.stubs import BatchCpuActivities

# Shards that wait in the queue or run, at any moment: enough for the cores of several hosts.
WINDOW = 64
# A shard leaves about seven events in the history.
SHARDS_A_RUN = 500


@workflow.defn(name=names.SHARDS_WORKFLOW)
class ShardsWorkflow:
    """Predicts every shard once; one that fails for a passing reason is tried again alone."""

    @workflow.run
    async def run(self, job: ShardsJob) -> ShardsDone:
        """Fails as the first shard that fails for good, once the others have stopped."""
        progress = job.progress or ShardsProgress(shards=job.shards, rows=job.rows, started_at=_now())
        _show(progress)
        last = min(job.next + SHARDS_A_RUN, job.shards)
        waiting = iter(range(job.next, last))
        running: set[asyncio.Task[ShardDone]] = set()
        try:
            while True:
                for shard in waiting:
                    running.add(asyncio.create_task(_predict(job, shard)))
                    if len(running) == WINDOW:
                        break
                if not running:
                    break
                done, _ = await workflow.wait(running, return_when=asyncio.FIRST_COMPLETED)
                running.difference_update(done)
                for task in done:
                    progress = _after(progress, task.result())
                _show(progress)
        except BaseException:
            for task in running:
                task.cancel()
            # A core is free only when its shard has stopped.
            if running:
                await workflow.wait(running)
            raise
        if last < job.shards:
            workflow.continue_as_new(job.model_copy(update={"next": last, "progress": progress}))
        return ShardsDone(rows=progress.done_rows, rejected_rows=progress.rejected_rows)


async def _predict(job: ShardsJob, shard: int) -> ShardDone:
    step = names.shard_step(shard)
    return await workflow.execute_activity_method(
        BatchCpuActivities.predict_shard,
        ShardOrder(order=batch_order(job.job, step), shard=shard),
        activity_id=step,
        **policies.cpu(job.job),
    )


def _after(progress: ShardsProgress, done: ShardDone) -> ShardsProgress:
    return progress.model_copy(
        update={
            "done_shards": progress.done_shards + 1,
            "done_rows": progress.done_rows + done.rows,
            "rejected_rows": progress.rejected_rows + done.rejected_rows,
            "as_of": _now(),
        }
    )


def _show(progress: ShardsProgress) -> None:
    workflow.upsert_memo({names.MEMO_SHARDS: progress})


def _now() -> float:
    now: datetime = workflow.now()
    return now.timestamp()
