"""The asynchronous client. The synchronous one drives it, so that the logic stands once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, Unpack

from mlops.client.batch import BatchOptions, resolved_spec
from mlops.client.batchhandle import AsyncBatchHandle
from mlops.client.connection import Connection
from mlops.client.datasets import AsyncDatasets
from mlops.client.endpoint import resolve
from mlops.client.handle import AsyncJobHandle
from mlops.client.jobs import AsyncJobs
from mlops.client.keys import AsyncKeys
from mlops.client.models import AsyncModels
from mlops.client.prediction import shaped_like
from mlops.client.quantities import parse_duration
from mlops.client.retry import RetryPolicy
from mlops.client.tenants import AsyncTenants
from mlops.client.training import TrainingOptions, training_spec
from mlops.jobs.card import PredictMethod
from mlops.jobs.dataset import Dataset
from mlops.jobs.inference import BatchInferenceSpec, ValidatedBatch
from mlops.jobs.job import JobKind, Validated
from mlops.jobs.model import Model, ModelVersion
from mlops.jobs.report import TrainingResult
from mlops.jobs.training import TrainingSpec

DEFAULT_TIMEOUT = timedelta(seconds=30)


class AsyncClient:
    """A gateway for asyncio programs. Names and arguments are those of `Client`; calls are awaited."""

    def __init__(
        self,
        address: str | None = None,
        api_key: str | None = None,
        *,
        context: str | None = None,
        timeout: timedelta | float | str = DEFAULT_TIMEOUT,
        retry: RetryPolicy | None = None,
        tls: bool | None = None,
        ca_file: str | Path | None = None,
    ) -> None:
        """Opens nothing yet: the first call does.

        address, api_key: MLOPS_ADDRESS and MLOPS_API_KEY where they are left out, else those of `context` or of
        the command line's current context. address: host:port; grpcs://host:port for TLS. timeout: of one call,
        its retries included. ca_file: PEM of the authorities to trust instead of the system's; implies TLS.
        """
        endpoint = resolve(address, api_key, context=context, tls=tls, ca_file=ca_file)
        seconds = parse_duration(timeout, field="timeout").total_seconds()
        self._connection = Connection(endpoint, timeout_seconds=seconds, retry=retry or RetryPolicy())
        self.datasets = AsyncDatasets(self._connection)
        self.jobs = AsyncJobs(self._connection)
        self.models = AsyncModels(self._connection)
        self.tenants = AsyncTenants(self._connection)
        self.keys = AsyncKeys(self._connection)

    @property
    def address(self) -> str:
        """host:port of the gateway."""
        return self._connection.endpoint.target

    async def train(
        self,
        estimator: object | None,
        dataset: Dataset | str,
        *,
        target: str,
        name: str | None = None,
        request_id: str | None = None,
        **options: Unpack[TrainingOptions],
    ) -> AsyncJobHandle:
        """Submits a training and returns a handle on the job.

        estimator: an unfitted scikit-learn estimator, an EstimatorSpec, or None for a pipeline chosen from the
        columns. dataset: one, its id, or its name (the newest). target: the column to predict. name: the model to
        register the result under; without one it is logged only. request_id: the job's id, which makes the call
        safe to repeat. options: see TrainingOptions (folds, holdout, scoring, cpus, memory, time_limit, labels, …).
        """
        spec = training_spec(estimator, dataset, target=target, name=name, **options)
        return await self.submit(spec, request_id)

    async def validate(
        self,
        estimator: object | None,
        dataset: Dataset | str,
        *,
        target: str,
        name: str | None = None,
        **options: Unpack[TrainingOptions],
    ) -> Validated:
        """Checks a training as `train` does and returns what would be done; starts nothing."""
        return await self.jobs.validate(training_spec(estimator, dataset, target=target, name=name, **options))

    async def predict(
        self,
        model: str | Model | ModelVersion | TrainingResult,
        rows: object,
        *,
        version: int | None = None,
        alias: str | None = None,
        outputs: str | PredictMethod | Sequence[PredictMethod | str] = PredictMethod.PREDICT,
        request_key: str = "",
    ) -> Any:
        """Predicts rows of named columns at once, and returns a column for each thing asked for, one row a row.

        model: "churn", "churn/3", "churn@champion", or a Model, ModelVersion or TrainingResult. Without a version or
        an alias the model's traffic rule decides, else the champion, else the newest version. rows: a pandas
        DataFrame, a mapping of columns, a list of dicts, or a pyarrow Table; columns go by their names. outputs:
        "predict", "predict_proba", "decision_function", or several. request_key: requests of one key go to the same
        version. The answer is a DataFrame with the index of `rows` (its `attrs` say which version answered); a
        mapping of columns for a mapping, and where pandas is not installed. Raises InvalidRequest, NotFound,
        QuotaExceeded, DeadlineExceeded, FailedPrecondition.
        """
        prediction = await self.models.predict(
            model, rows, version=version, alias=alias, outputs=outputs, request_key=request_key
        )
        return shaped_like(rows, prediction)

    async def predict_batch(
        self,
        model: str | Model | ModelVersion | TrainingResult,
        data: object,
        *,
        request_id: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> AsyncBatchHandle:
        """Submits a batch inference and returns a handle on the job, whose `result()` is a DataFrame.

        model: as for `predict`. data: a dataset, its id, its name (the newest) or a URI; a DataFrame or the path of a
        file is uploaded first. request_id: the job's id, which makes the call safe to repeat. options: see
        BatchOptions (outputs, carry, output_format, on_bad_row, target, cpus, memory, labels, …).
        """
        return await self.submit_batch(await resolved_spec(self.datasets, model, data, options), request_id)

    async def validate_batch(
        self,
        model: str | Model | ModelVersion | TrainingResult,
        data: object,
        **options: Unpack[BatchOptions],
    ) -> ValidatedBatch:
        """Checks a batch inference as `predict_batch` does and returns what would be done; starts nothing.

        A DataFrame or a file is uploaded, since its columns are held against the model.
        """
        return await self.jobs.validate_batch(await resolved_spec(self.datasets, model, data, options))

    async def submit(self, spec: TrainingSpec, request_id: str | None = None) -> AsyncJobHandle:
        """Submits a spec that is already written, and returns a handle on the job."""
        return AsyncJobHandle(self.jobs, await self.jobs.submit(spec, request_id))

    async def submit_batch(self, spec: BatchInferenceSpec, request_id: str | None = None) -> AsyncBatchHandle:
        """Submits a batch spec that is already written, and returns a handle on the job."""
        return AsyncBatchHandle(self.jobs, await self.jobs.submit_batch(spec, request_id))

    async def job(self, job_id: str) -> AsyncJobHandle | AsyncBatchHandle:
        """A handle on a job that was submitted before, of the kind that the job is of. Raises NotFound."""
        job = await self.jobs.get(job_id)
        if job.kind is JobKind.BATCH_INFERENCE:
            return AsyncBatchHandle(self.jobs, job)
        return AsyncJobHandle(self.jobs, job)

    async def close(self) -> None:
        """Closes the connection. Jobs go on."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
