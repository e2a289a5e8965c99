"""The IO activities of batch inference: the input is copied in, and the result is committed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from temporalio import activity

from mlops import errors, names
from mlops.activities.heartbeat import Heartbeat
from mlops.activities.io_host import IoSteps
from mlops.activities.plans import read_batch_plan
from mlops.jobs.inference import BatchManifest, BatchOrder, BatchOutcome, BatchReport
from mlops.jobs.job import StepState
from mlops.workflows import stubs

MIB = 1024**2


class BatchIoWork(IoSteps, stubs.BatchIoActivities):
    """The IO activities of one tenant's batch jobs."""

    @activity.defn
    async def copy_input(self, order: BatchOrder) -> None:
        """Copies the input from its URI to the job's own files, once."""
        async with self._step(order.tenant, order.step) as beat:
            plan, store = await read_batch_plan(self._host.store, order), self._host.store
            key = names.batch_input_key(order.tenant, order.job_id, order.plan_sha256)
            if plan.uri is None:
                raise errors.InvalidRequest.of("uri", "there is no URI to copy")
            if not await store.exists(key):
                await self._host.sources.copy_to(
                    order.tenant, plan.uri, store, key, max_bytes=plan.max_bytes, on_bytes=_shown_by(beat)
                )

    @activity.defn
    async def commit_batch(self, order: BatchOrder) -> BatchOutcome:
        """Writes the manifest: before, readers see nothing of the result, and then all of it."""
        async with self._step(order.tenant, order.step):
            store = self._host.store
            plan = await read_batch_plan(store, order)
            key = names.step_key(order.tenant, order.job_id, names.SUMMARISE_STEP, names.STEP_REPORT)
            report = BatchReport.model_validate_json(await store.read_bytes(key))
            manifest = BatchManifest(
                job_id=order.job_id,
                model_name=plan.model_name,
                model_version=plan.model_version,
                dataset_id=plan.dataset_id,
                source_uri=plan.uri,
                committed_at=datetime.now(UTC),
                report=report,
            )
            folder = names.result_prefix(order.tenant, order.job_id)
            text = manifest.model_dump_json(indent=2).encode()
            await store.write_bytes(f"{folder}/{names.MANIFEST_FILE}", text)
            # Nothing is missing now that a retry would have to read it for.
            await store.delete_prefix(names.batch_input_prefix(order.tenant, order.job_id))
            return BatchOutcome(
                model_name=plan.model_name,
                model_version=plan.model_version,
                rows=report.rows,
                rejected_rows=report.rejected_rows,
            )


def _shown_by(beat: Heartbeat) -> Callable[[int], None]:
    return lambda size_bytes: beat.show(StepState.RUNNING, message=f"{size_bytes / MIB:,.0f} MiB copied")
