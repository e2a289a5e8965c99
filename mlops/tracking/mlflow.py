"""Tracking on an MLflow 3 server."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlops import names
from mlops.errors import FailedPrecondition, NotFound
from mlops.jobs.model import Model, ModelVersion, Signature
from mlops.jobs.tracking import LoggedModel, RunStatus, StartedRun
from mlops.tracking.artifacts import proxied
from mlops.tracking.claim import together
from mlops.tracking.credentials import Account
from mlops.tracking.models import LoggedModels
from mlops.tracking.protocol import DatasetInput, Metric, ModelFiles
from mlops.tracking.registry import Registry, time_of
from mlops.tracking.rest import MlflowRest
from mlops.tracking.runs import Runs, untied


class MlflowTracking:
    """Tracking for all tenants of one MLflow server, over one connection pool; close it in the end.

    secret_key: the platform's, from which the tenants' passwords are derived.
    """

    def __init__(self, url: str, secret_key: str) -> None:
        self._secret_key = secret_key
        self._rest = MlflowRest(url)
        self._runs = Runs(self._rest)
        self._models = LoggedModels(self._rest, self._runs)
        self._registry = Registry(self._rest)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections."""
        await self._rest.close()

    def _account(self, tenant: str) -> Account:
        return Account.of_tenant(self._secret_key, tenant)

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
        """As Tracking."""
        return await self._runs.start(
            self._account(tenant),
            job_id=job_id,
            experiment=experiment,
            run_name=run_name,
            tags=tags,
            params=params,
            started_at=started_at,
        )

    async def find_run(self, tenant: str, job_id: str) -> StartedRun | None:
        """As Tracking."""
        return await self._runs.find(self._account(tenant), job_id)

    async def log_metrics(
        self, tenant: str, run_id: str, points: Sequence[Metric], *, model_id: str | None = None
    ) -> None:
        """As Tracking."""
        await self._runs.log_metrics(self._account(tenant), run_id, points, model_id=model_id)

    async def log_dataset(self, tenant: str, run_id: str, dataset: DatasetInput) -> None:
        """As Tracking."""
        await self._runs.log_dataset(self._account(tenant), run_id, dataset)

    async def log_artifact(self, tenant: str, run_id: str, path_in_run: str, content: Path | bytes) -> None:
        """As Tracking."""
        await self._runs.log_artifact(self._account(tenant), run_id, path_in_run, content)

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
        """As Tracking."""
        return await self._models.log(self._account(tenant), run, job_id=job_id, model=model, params=params, tags=tags)

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
        """As Tracking."""
        return await self._registry.register(
            self._account(tenant), model_name=model_name, model=model, run_id=run_id, job_id=job_id, tags=tags
        )

    async def delete_version(self, tenant: str, *, model_name: str, job_id: str) -> None:
        """As Tracking."""
        await self._registry.withdraw(self._account(tenant), model_name=model_name, job_id=job_id)

    async def finish_run(
        self, tenant: str, run_id: str, status: RunStatus, *, ended_at: datetime, message: str = ""
    ) -> None:
        """As Tracking."""
        await self._runs.finish(self._account(tenant), run_id, status, ended_at=ended_at, message=message)

    async def list_models(
        self, tenant: str, *, name: str, page_size: int, page_token: str
    ) -> tuple[tuple[Model, ...], str]:
        """As Tracking."""
        return await self._registry.page(self._account(tenant), name=name, page_size=page_size, page_token=page_token)

    async def get_model(self, tenant: str, name: str) -> Model:
        """As Tracking."""
        return await self._registry.get(self._account(tenant), name)

    async def list_versions(
        self, tenant: str, name: str, *, page_size: int, page_token: str
    ) -> tuple[tuple[ModelVersion, ...], str]:
        """As Tracking."""
        found, token = await self._registry.versions(
            self._account(tenant), name, page_size=page_size, page_token=page_token
        )
        return tuple(_version(one) for one in found), token

    async def find_version(self, tenant: str, name: str, which: int | str) -> ModelVersion:
        """As Tracking."""
        return _version(await self._registry.version(self._account(tenant), name, which))

    async def model_file(self, tenant: str, version: ModelVersion, name: str) -> AsyncGenerator[bytes, None]:
        """As Tracking. What people registered by a run's path is found there."""
        account, source = self._account(tenant), version.artifact_uri
        if model_id := _model_id(source):
            source = await self._models.location(account, model_id)
        elif source.startswith("runs:/"):
            run_id, _, folder = source.removeprefix("runs:/").partition("/")
            source = f"{await self._runs.location(account, run_id)}/{folder}"
        about = ("file of a model version", f"{version.model_name}/{version.version}/{name}")
        async with aclosing(self._rest.stream(account, proxied(source, name), about=about)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def set_alias(self, tenant: str, name: str, alias: str, version: int) -> None:
        """As Tracking."""
        await self._registry.set_alias(self._account(tenant), name, alias, version)

    async def delete_alias(self, tenant: str, name: str, alias: str) -> None:
        """As Tracking."""
        await self._registry.delete_alias(self._account(tenant), name, alias)

    async def get_version(self, tenant: str, name: str, which: int | str) -> ModelVersion:
        """As Tracking. What people registered by themselves may lack a run or a logged model: those parts stay empty."""
        account = self._account(tenant)
        found = await self._registry.version(account, name, which)
        (metrics, params), (artifact_uri, size_bytes, signature) = await together(
            self._run_data(account, found.get("run_id", "")),
            self._model_data(account, _model_id(found.get("source", ""))),
        )
        return _version(found).model_copy(
            update={
                "metrics": metrics,
                "params": params,
                "signature": signature,
                "artifact_uri": artifact_uri or found.get("source", ""),
                "size_bytes": size_bytes,
            }
        )

    async def _run_data(self, account: Account, run_id: str) -> tuple[dict[str, float], dict[str, str]]:
        if not run_id:
            return {}, {}
        try:
            return await self._runs.data(account, run_id)
        except NotFound:
            return {}, {}

    async def _model_data(self, account: Account, model_id: str) -> tuple[str, int, Signature]:
        if not model_id:
            return "", 0, Signature()
        try:
            return await self._models.about(account, model_id)
        except (NotFound, FailedPrecondition):
            return "", 0, Signature()


def _model_id(source: str) -> str:
    """The logged model that a version was made of: m-… of models:/m-…, and "" where it was made of something else."""
    model_id = source.removeprefix("models:/")
    return model_id if model_id != source and model_id.startswith("m-") and "/" not in model_id else ""


def _version(found: Mapping[str, Any]) -> ModelVersion:
    tags = untied(found.get("tags"))
    return ModelVersion(
        model_name=found["name"],
        version=int(found["version"]),
        created_at=time_of(found["creation_timestamp"]),
        job_id=tags.get(names.TAG_JOB, ""),
        run_id=found.get("run_id", ""),
        owner=tags.get(names.TAG_OWNER, ""),
        dataset_id=tags.get(names.TAG_DATASET, ""),
        dataset_sha256=tags.get(names.TAG_DATASET_SHA256, ""),
        estimator=tags.get(names.TAG_ESTIMATOR, ""),
        task=tags.get(names.TAG_TASK, ""),
        aliases=tuple(sorted(found.get("aliases", ()))),
        library_versions=library_versions(tags.get(names.TAG_VERSIONS, "")),
        artifact_uri=found.get("source", ""),
    )


def library_versions(text: str) -> dict[str, str]:
    """The versions tag: a JSON object. People can edit tags, so anything else counts as none."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return {str(name): str(version) for name, version in found.items()} if isinstance(found, dict) else {}
