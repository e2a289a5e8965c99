"""What the platform asks of an experiment tracker. `tenant` is always a slug, and always first."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from mlops.jobs.model import Model, ModelVersion, Signature, SignatureColumn
from mlops.jobs.tracking import LoggedModel, RunStatus, StartedRun


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One point of a metric.

    A point that is equal in all four is stored once: a retry that derives its timestamps from the job
    (its start plus the step, say) adds nothing. NaN is kept; infinities become the largest finite float.
    """

    name: str
    value: float
    step: int = 0
    timestamp: datetime


@dataclass(frozen=True, kw_only=True)
class DatasetInput:
    """The data that a run used, as its page shows it. `columns` may be left empty for a very wide table."""

    dataset_id: str
    name: str
    sha256: str
    rows: int
    columns: tuple[SignatureColumn, ...] = ()
    # What it was used for.
    context: str = "training"


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A trained model, ready to be logged.

    file: the model in skops format. input_example: a few rows as JSON in pandas' `split` orientation,
    {"columns": […], "data": [[…], …]}, or None. trusted_types: the types in the file that skops does not
    trust by itself, which people's own loaders have to be told. versions: of python, scikit-learn, skops,
    numpy, …, as they trained it. extras: further files to keep beside the model, by name.
    """

    file: Path
    signature: Signature
    input_example: bytes | None
    trusted_types: tuple[str, ...]
    versions: Mapping[str, str]
    extras: Mapping[str, Path | bytes] = field(default_factory=dict)


class Tracking(Protocol):
    """Runs, models and versions. Every write may be repeated: it finds what an earlier try made.

    Every method may raise TrackingUnavailable (the tracker is away; the same call may work later) and
    PermissionDenied (the tenant's service account may not do that, or does not exist).
    """

    async def start_run(
        self,
        tenant: str,
        *,
        job_id: str,
        experiment: str,
        run_name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        started_at: datetime,
    ) -> StartedRun:
        """The job's one run: found by its job tag, or made. Long parameter values are cut to 6000 characters."""
        ...

    async def find_run(self, tenant: str, job_id: str) -> StartedRun | None:
        """The job's run, or None where it has none."""
        ...

    async def log_metrics(
        self, tenant: str, run_id: str, points: Sequence[Metric], *, model_id: str | None = None
    ) -> None:
        """Adds points to a run, and to one of its models where `model_id` is given. Raises NotFound."""
        ...

    async def log_dataset(self, tenant: str, run_id: str, dataset: DatasetInput) -> None:
        """Notes the data that a run used. Raises NotFound."""
        ...

    async def log_artifact(self, tenant: str, run_id: str, path_in_run: str, content: Path | bytes) -> None:
        """Stores a file with a run (`plots/roc.png`), replacing one of that path. Raises NotFound."""
        ...

    async def log_model(
        self,
        tenant: str,
        run: StartedRun,
        *,
        job_id: str,
        model: ModelFiles,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> LoggedModel:
        """The job's one model among the run's outputs, complete and ready to be loaded by MLflow's own client."""
        ...

    async def register_version(
        self,
        tenant: str,
        *,
        model_name: str,
        model: LoggedModel,
        run_id: str,
        job_id: str,
        tags: Mapping[str, str],
    ) -> int:
        """The number of the job's one version of the registered model, which is made where it is missing."""
        ...

    async def delete_version(self, tenant: str, *, model_name: str, job_id: str) -> None:
        """Takes back what `register_version` did for the job, if anything.

        The registered model goes too where the job had made it and no other version is left.
        """
        ...

    async def finish_run(
        self, tenant: str, run_id: str, status: RunStatus, *, ended_at: datetime, message: str = ""
    ) -> None:
        """Ends a run, and says why in a tag. Raises NotFound."""
        ...

    async def list_models(
        self, tenant: str, *, name: str, page_size: int, page_token: str
    ) -> tuple[tuple[Model, ...], str]:
        """A page of models by name, and the next page's token ("" on the last one; a page may be short).

        name: "" for all, exact, or a prefix with a trailing `*`. Raises InvalidRequest for a page token
        that this filter did not give.
        """
        ...

    async def get_model(self, tenant: str, name: str) -> Model:
        """One model. Raises NotFound."""
        ...

    async def list_versions(
        self, tenant: str, name: str, *, page_size: int, page_token: str
    ) -> tuple[tuple[ModelVersion, ...], str]:
        """A page of a model's versions, newest first, without metrics, parameters, signature and size.

        Raises NotFound, and InvalidRequest as `list_models` does.
        """
        ...

    async def find_version(self, tenant: str, name: str, which: int | str) -> ModelVersion:
        """One version by its number, or by an alias, as lists show it: quicker than `get_version`. Raises NotFound."""
        ...

    def model_file(self, tenant: str, version: ModelVersion, name: str) -> AsyncGenerator[bytes, None]:
        """A file of a version's model (MLmodel, model.skops, …), in chunks.

        Raises NotFound, and FailedPrecondition where the model is not among the tracker's own files.
        """
        ...

    async def set_alias(self, tenant: str, name: str, alias: str, version: int) -> None:
        """Points an alias to a version, or moves it there. Raises NotFound for the model or the version."""
        ...

    async def delete_alias(self, tenant: str, name: str, alias: str) -> None:
        """Removes an alias; nothing happens where there is none. Raises NotFound for the model."""
        ...

    async def get_version(self, tenant: str, name: str, which: int | str) -> ModelVersion:
        """One version by its number, or by an alias (a str). Raises NotFound."""
        ...
