"""The synchronous client."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, Unpack

from mlops.client.aio import DEFAULT_TIMEOUT, AsyncClient
from mlops.client.batch import BatchOptions
from mlops.client.batchhandle import AsyncBatchHandle
from mlops.client.blocking.batchhandle import BatchHandle
from mlops.client.blocking.datasets import Datasets
from mlops.client.blocking.handle import JobHandle
from mlops.client.blocking.jobs import Jobs
from mlops.client.blocking.keys import Keys
from mlops.client.blocking.loop import LoopThread
from mlops.client.blocking.models import Models
from mlops.client.blocking.tenants import Tenants
from mlops.client.retry import RetryPolicy
from mlops.client.training import TrainingOptions
from mlops.jobs.card import PredictMethod
from mlops.jobs.dataset import Dataset
from mlops.jobs.inference import BatchInferenceSpec, ValidatedBatch
from mlops.jobs.job import Validated
from mlops.jobs.model import Model, ModelVersion
from mlops.jobs.report import TrainingResult
from mlops.jobs.training import TrainingSpec


class Client:
    """A gateway, for scripts and notebooks. May be used by several threads at once.

    with Client("gateway:7300", api_key) as client:
        dataset = client.datasets.upload("churn.csv")
        result = client.train(RandomForestClassifier(), dataset, target="left", name="churn").wait()
        predicted = client.predict(result, frame)
    """

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
        self._client = AsyncClient(
            address, api_key, context=context, timeout=timeout, retry=retry, tls=tls, ca_file=ca_file
        )
        self._loop = LoopThread()
        self.datasets = Datasets(self._loop, self._client.datasets)
        self.jobs = Jobs(self._loop, self._client.jobs)
        self.models = Models(self._loop, self._client.models)
        self.tenants = Tenants(self._loop, self._client.tenants)
        self.keys = Keys(self._loop, self._client.keys)

    @property
    def address(self) -> str:
        """host:port of the gateway."""
        return self._client.address

    def train(
        self,
        estimator: object | None,
        dataset: Dataset | str,
        *,
        target: str,
        name: str | None = None,
        request_id: str | None = None,
        **options: Unpack[TrainingOptions],
    ) -> JobHandle:
        """Submits a training and returns a handle on the job.

        estimator: an unfitted scikit-learn estimator, an EstimatorSpec, or None for a pipeline chosen from the
        columns. dataset: one, its id, or its name (the newest). target: the column to predict. name: the model to
        register the result under; without one it is logged only. request_id: the job's id, which makes the call
        safe to repeat. options: see TrainingOptions (folds, holdout, scoring, cpus, memory, time_limit, labels, …).
        """
        submitting = self._client.train(estimator, dataset, target=target, name=name, request_id=request_id, **options)
        return JobHandle(self._loop, self._loop.run(submitting))

    def validate(
        self,
        estimator: object | None,
        dataset: Dataset | str,
        *,
        target: str,
        name: str | None = None,
        **options: Unpack[TrainingOptions],
    ) -> Validated:
        """Checks a training as `train` does and returns what would be done; starts nothing."""
        return self._loop.run(self._client.validate(estimator, dataset, target=target, name=name, **options))

    def predict(
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
        return self._loop.run(
            self._client.predict(model, rows, version=version, alias=alias, outputs=outputs, request_key=request_key)
        )

    def predict_batch(
        self,
        model: str | Model | ModelVersion | TrainingResult,
        data: object,
        *,
        request_id: str | None = None,
        **options: Unpack[BatchOptions],
    ) -> BatchHandle:
        """Submits a batch inference and returns a handle on the job, whose `result()` is a DataFrame.

        model: as for `predict`. data: a dataset, its id, its name (the newest) or a URI; a DataFrame or the path of a
        file is uploaded first. request_id: the job's id, which makes the call safe to repeat. options: see
        BatchOptions (outputs, carry, output_format, on_bad_row, target, cpus, memory, labels, …).
        """
        submitting = self._client.predict_batch(model, data, request_id=request_id, **options)
        return BatchHandle(self._loop, self._loop.run(submitting))

    def validate_batch(
        self,
        model: str | Model | ModelVersion | TrainingResult,
        data: object,
        **options: Unpack[BatchOptions],
    ) -> ValidatedBatch:
        """Checks a batch inference as `predict_batch` does and returns what would be done; starts nothing.

        A DataFrame or a file is uploaded, since its columns are held against the model.
        """
        return self._loop.run(self._client.validate_batch(model, data, **options))

    def submit(self, spec: TrainingSpec, request_id: str | None = None) -> JobHandle:
        """Submits a spec that is already written, and returns a handle on the job."""
        return JobHandle(self._loop, self._loop.run(self._client.submit(spec, request_id)))

    def submit_batch(self, spec: BatchInferenceSpec, request_id: str | None = None) -> BatchHandle:
        """Submits a batch spec that is already written, and returns a handle on the job."""
        return BatchHandle(self._loop, self._loop.run(self._client.submit_batch(spec, request_id)))

    def job(self, job_id: str) -> JobHandle | BatchHandle:
        """A handle on a job that was submitted before, of the kind that the job is of. Raises NotFound."""
        handle = self._loop.run(self._client.job(job_id))
        if isinstance(handle, AsyncBatchHandle):
            return BatchHandle(self._loop, handle)
        return JobHandle(self._loop, handle)

    def close(self) -> None:
        """Closes the connection. Jobs go on."""
        if not self._loop.closed:
            self._loop.run(self._client.close())
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
