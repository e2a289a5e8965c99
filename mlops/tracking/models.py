"""Logged models: what MLflow 3 keeps of a model among a run's outputs, before anyone registers it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mlops import names
from mlops.errors import AlreadyExists, NotFound
from mlops.jobs.model import Signature
from mlops.jobs.tracking import LoggedModel, StartedRun
from mlops.tracking.artifacts import proxied
from mlops.tracking.claim import Claim, ClaimLostError, claim_one, together
from mlops.tracking.credentials import Account
from mlops.tracking.mlmodel import MLMODEL, MODEL_FILE, model_directory, read_signature
from mlops.tracking.protocol import ModelFiles
from mlops.tracking.rest import API_2, MlflowRest
from mlops.tracking.runs import MILLISECONDS, PARAM_CHARS, TAG_CHARS, Runs, pairs, tagged, untied

READY = "LOGGED_MODEL_READY"
# What MLflow shows for a model that no registered model names.
DISPLAY_NAME = "model"
MAX_MLMODEL_BYTES = 8 * 1024 * 1024


class LoggedModels:
    """Logged models of all tenants: each call names its account."""

    def __init__(self, rest: MlflowRest, runs: Runs) -> None:
        self._rest = rest
        self._runs = runs

    async def log(
        self,
        account: Account,
        run: StartedRun,
        *,
        job_id: str,
        model: ModelFiles,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> LoggedModel:
        """As Tracking.log_model. A model that is ready is complete: it is not sent again."""
        of_experiment = ("experiment", run.experiment_id)
        model_bytes = (await asyncio.to_thread(model.file.stat)).st_size
        told = {**tags, names.TAG_JOB: job_id, names.TAG_MODEL_BYTES: str(model_bytes)}
        known: dict[str, dict[str, Any]] = {}
        created: set[str] = set()

        async def find() -> Sequence[Claim]:
            body = {"experiment_ids": [run.experiment_id], "filter": tagged(names.TAG_JOB, job_id)}
            found = await self._rest.query(account, f"{API_2}/logged-models/search", body, about=of_experiment)
            known.update({one["info"]["model_id"]: one["info"] for one in found.get("models", ())})
            return [Claim(one["info"]["model_id"], one["info"]["status"] == READY) for one in found.get("models", ())]

        async def create() -> str:
            body = {
                "experiment_id": run.experiment_id,
                "name": DISPLAY_NAME,
                "source_run_id": run.run_id,
                "params": pairs({names.metric(key): value for key, value in params.items()}, PARAM_CHARS),
                "tags": pairs(told, TAG_CHARS),
            }
            made = await self._rest.write(account, "POST", f"{API_2}/logged-models", body, about=of_experiment)
            model_id = str(made["model"]["info"]["model_id"])
            known[model_id] = made["model"]["info"]
            created.add(model_id)
            return model_id

        async def confirm(model_id: str) -> None:
            try:
                await self._send(account, run, known[model_id], model, model_bytes, is_new=model_id in created)
            except NotFound:
                raise ClaimLostError from None

        async def discard(model_id: str) -> None:
            await self._rest.delete(account, f"{API_2}/logged-models/{model_id}", about=("logged model", model_id))

        model_id = await claim_one(find=find, create=create, confirm=confirm, discard=discard)
        return LoggedModel(model_id=model_id, uri=f"models:/{model_id}")

    async def about(self, account: Account, model_id: str) -> tuple[str, int, Signature]:
        """Where a model's files are, their size in bytes (0 where it is not known) and the model's signature.

        Raises NotFound.
        """
        info = await self._info(account, model_id)
        uri = str(info["artifact_uri"])
        size = untied(info.get("tags")).get(names.TAG_MODEL_BYTES, "")
        try:
            content = await self._rest.download(
                account, proxied(uri, MLMODEL), max_bytes=MAX_MLMODEL_BYTES, about=("logged model", model_id)
            )
        except NotFound:
            return uri, int(size) if size.isdecimal() else 0, Signature()
        # Thousands of columns take long enough to hold up everybody else.
        signature = await asyncio.to_thread(read_signature, content)
        return uri, int(size) if size.isdecimal() else 0, signature

    async def location(self, account: Account, model_id: str) -> str:
        """Where a model's files are: mlflow-artifacts:/… Raises NotFound."""
        return str((await self._info(account, model_id))["artifact_uri"])

    async def _info(self, account: Account, model_id: str) -> dict[str, Any]:
        path = f"{API_2}/logged-models/{model_id}"
        found = await self._rest.get(account, path, about=("logged model", model_id))
        info: dict[str, Any] = found["model"]["info"]
        return info

    async def _send(
        self,
        account: Account,
        run: StartedRun,
        info: Mapping[str, Any],
        model: ModelFiles,
        model_bytes: int,
        *,
        is_new: bool,
    ) -> None:
        model_id, uri = str(info["model_id"]), str(info["artifact_uri"])
        about = ("logged model", model_id)
        files = model_directory(
            model_id=model_id,
            run_id=run.run_id,
            artifact_uri=uri,
            signature=model.signature,
            input_example=model.input_example,
            trusted_types=model.trusted_types,
            versions=model.versions,
            model_bytes=model_bytes,
            created_at=datetime.fromtimestamp(int(info["creation_timestamp_ms"]) / MILLISECONDS, UTC),
        )
        await together(
            self._name_output(account, run, model_id, is_new=is_new),
            self._rest.upload(account, proxied(uri, MODEL_FILE), model.file, about=about),
            *(
                self._rest.upload(account, proxied(uri, name), content, about=about)
                for name, content in (files | dict(model.extras)).items()
            ),
        )
        ready = {"model_id": model_id, "status": READY}
        await self._rest.write(account, "PATCH", f"{API_2}/logged-models/{model_id}", ready, about=about)

    async def _name_output(self, account: Account, run: StartedRun, model_id: str, *, is_new: bool) -> None:
        """Puts the model among the run's outputs. MLflow refuses a second time, so an old model is looked up first."""
        if not is_new and await self._runs.has_output(account, run.run_id, model_id):
            return
        body = {"run_id": run.run_id, "models": [{"model_id": model_id, "step": 0}]}
        try:
            await self._rest.write(account, "POST", f"{API_2}/runs/outputs", body, about=("run", run.run_id))
        except AlreadyExists:
            if not await self._runs.has_output(account, run.run_id, model_id):
                raise
