"""The ingest workflow: a source becomes a dataset."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from mlops import names
    from mlops.jobs.dataset import IngestedFiles, IngestJob, IngestTask
    from mlops.workflows import policies
    from mlops.workflows.failures import as_application_error, details_of, failure_of, is_cancelled_exception
    from mlops.workflows.stubs import CpuActivities, IoActivities


@workflow.defn(name=names.INGEST_WORKFLOW)
class IngestWorkflow:
    """Copies a source where it is not stored yet, and reads it on a CPU worker."""

    @workflow.run
    async def run(self, job: IngestJob) -> IngestedFiles:
        """Returns the dataset's id and hash; fails with a failure report."""
        try:
            sha256 = job.sha256
            if sha256 is None:
                source = await workflow.execute_activity_method(
                    IoActivities.copy_source, job, activity_id=names.COPY_STEP, **policies.ingest_io()
                )
                sha256 = source.sha256
            return await workflow.execute_activity_method(
                CpuActivities.ingest_dataset,
                IngestTask(
                    tenant=job.tenant,
                    dataset_id=names.dataset_id(sha256, job.read_options.canonical()),
                    sha256=sha256,
                    source_name=job.source_name,
                    read_options=job.read_options,
                ),
                activity_id=names.INGEST_STEP,
                **policies.ingest_cpu(),
            )
        except Exception as error:
            if is_cancelled_exception(error):
                raise
            raise as_application_error(failure_of(error), details_of(error)) from error
