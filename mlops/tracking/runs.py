"""Experiments and runs in MLflow."""

from __future__ import annotations

import json
import math
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import stamina

from mlops import names
from mlops.errors import AlreadyExists, InvalidRequest, NotFound, PermissionDenied
from mlops.jobs.tracking import RunStatus, StartedRun
from mlops.tracking.artifacts import proxied
from mlops.tracking.claim import Claim, ClaimLostError, claim_one, together
from mlops.tracking.credentials import Account
from mlops.tracking.mlmodel import column_specs
from mlops.tracking.protocol import DatasetInput, Metric
from mlops.tracking.rest import API_2, MlflowRest

# MLflow's own limits, of one log-batch call and of what it keeps.
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_CHARS = 6000
TAG_CHARS = 8000
DIGEST_CHARS = 36
SCHEMA_CHARS = 1_000_000
EXPERIMENTS_PER_PAGE = 1000
MILLISECONDS = 1000

# Ids remembered, over all tenants; each is a few hundred bytes.
REMEMBERED = 10_000

_AT_ONCE = stamina.AsyncRetryingCaller(attempts=5, timeout=10.0, wait_initial=0.05, wait_max=0.5).on(AlreadyExists)


class Runs:
    """Runs of all tenants: each call names its account."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest
        self._experiments: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._artifact_uris: OrderedDict[tuple[str, str], str] = OrderedDict()

    async def start(
        self,
        account: Account,
        *,
        job_id: str,
        experiment: str,
        run_name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        started_at: datetime,
    ) -> StartedRun:
        """As Tracking.start_run."""
        known = (account.user, experiment)
        remembered = self._experiments.get(known)
        try:
            experiment_id = remembered or await self._experiment_id(account, experiment)
            run_id = await self._claim(account, experiment_id, job_id, run_name, tags, params, started_at)
        except (NotFound, InvalidRequest, PermissionDenied):
            if remembered is None:
                raise
            # Somebody deleted the experiment, or the whole workspace was made anew.
            self._experiments.pop(known, None)
            experiment_id = await self._experiment_id(account, experiment)
            run_id = await self._claim(account, experiment_id, job_id, run_name, tags, params, started_at)
        _remember(self._experiments, known, experiment_id)
        return StartedRun(run_id=run_id, experiment_id=experiment_id)

    async def _claim(
        self,
        account: Account,
        experiment_id: str,
        job_id: str,
        run_name: str,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        started_at: datetime,
    ) -> str:
        told = {
            "mlflow.user": tags.get(names.TAG_OWNER, account.user),
            "mlflow.source.name": "mlops",
            "mlflow.source.type": "JOB",
            **tags,
            names.TAG_JOB: job_id,
        }

        async def find() -> Sequence[Claim]:
            return [_claim(run) for run in await self._search(account, [experiment_id], job_id)]

        async def create() -> str:
            body = {
                "experiment_id": experiment_id,
                "run_name": run_name,
                "start_time": millis(started_at),
                "tags": pairs(told, TAG_CHARS),
            }
            about = ("experiment", experiment_id)
            made = await self._rest.write(account, "POST", f"{API_2}/runs/create", body, about=about)
            return str(made["run"]["info"]["run_id"])

        async def confirm(run_id: str) -> None:
            named = {names.metric(key): value for key, value in params.items()}
            *full, last = [*batches(pairs(named, PARAM_CHARS), PARAMS_PER_BATCH)] or [[]]
            claimed = pairs({names.TAG_CLAIMED: "true"}, TAG_CHARS)
            try:
                for batch in full:
                    await self._log(account, run_id, "log-batch", {"params": batch})
                await self._log(account, run_id, "log-batch", {"params": last, "tags": claimed})
            except InvalidRequest:
                run = await self._get(account, run_id)
                if run["info"]["lifecycle_stage"] == "deleted":
                    raise ClaimLostError from None
                raise

        async def discard(run_id: str) -> None:
            body = {"run_id": run_id}
            await self._rest.write(account, "POST", f"{API_2}/runs/delete", body, about=("run", run_id))

        return await claim_one(find=find, create=create, confirm=confirm, discard=discard)

    async def find(self, account: Account, job_id: str) -> StartedRun | None:
        """As Tracking.find_run: looks through every experiment."""
        token = ""
        while True:
            body = {"max_results": EXPERIMENTS_PER_PAGE, **({"page_token": token} if token else {})}
            page = await self._rest.query(
                account, f"{API_2}/experiments/search", body, about=("workspace", account.workspace or "")
            )
            if ids := [experiment["experiment_id"] for experiment in page.get("experiments", ())]:
                found = await self._search(account, ids, job_id)
                if found:
                    # One that nobody confirmed is what a try left that crashed.
                    run = min(found, key=lambda run: (not _claim(run).confirmed, _claim(run).id))
                    return StartedRun(run_id=_claim(run).id, experiment_id=run["info"]["experiment_id"])
            if not (token := page.get("next_page_token", "")):
                return None

    async def log_metrics(
        self, account: Account, run_id: str, points: Sequence[Metric], *, model_id: str | None
    ) -> None:
        """As Tracking.log_metrics."""
        of_model = {"model_id": model_id} if model_id else {}
        for batch in batches([{**_point(point), **of_model} for point in points], METRICS_PER_BATCH):
            await self._log(account, run_id, "log-batch", {"metrics": batch})

    async def log_dataset(self, account: Account, run_id: str, dataset: DatasetInput) -> None:
        """As Tracking.log_dataset. MLflow keeps 36 characters of a digest: the whole hash stands in the source."""
        schema = f'{{"mlflow_colspec": {column_specs(dataset.columns)}}}' if dataset.columns else ""
        shown: dict[str, Any] = {
            "name": dataset.name[:500],
            "digest": dataset.sha256[:DIGEST_CHARS],
            "source_type": "mlops",
            "source": json.dumps({"dataset": dataset.dataset_id, "sha256": dataset.sha256}),
            "profile": json.dumps({"num_rows": dataset.rows, "num_elements": dataset.rows * len(dataset.columns)}),
        }
        if schema and len(schema.encode()) <= SCHEMA_CHARS:
            shown["schema"] = schema
        tags = [{"key": "mlflow.data.context", "value": dataset.context}]
        await self._log(account, run_id, "log-inputs", {"datasets": [{"dataset": shown, "tags": tags}]})

    async def log_artifact(self, account: Account, run_id: str, path_in_run: str, content: Path | bytes) -> None:
        """As Tracking.log_artifact."""
        uri = self._artifact_uris.get((account.user, run_id))
        if uri is None:
            uri = str((await self._get(account, run_id))["info"]["artifact_uri"])
            _remember(self._artifact_uris, (account.user, run_id), uri)
        await self._rest.upload(account, proxied(uri, path_in_run), content, about=("run", run_id))

    async def finish(
        self, account: Account, run_id: str, status: RunStatus, *, ended_at: datetime, message: str
    ) -> None:
        """As Tracking.finish_run."""
        about = ("run", run_id)
        ended = {"run_id": run_id, "status": status.value, "end_time": millis(ended_at)}
        writes = [self._rest.write(account, "POST", f"{API_2}/runs/update", ended, about=about)]
        if message:
            tag = {"run_id": run_id, "key": names.TAG_MESSAGE, "value": message[:TAG_CHARS]}
            writes.append(self._rest.write(account, "POST", f"{API_2}/runs/set-tag", tag, about=about))
        await together(*writes)

    async def data(self, account: Account, run_id: str) -> tuple[dict[str, float], dict[str, str]]:
        """The last value of each metric, and the parameters."""
        run = await self._get(account, run_id)
        data = run.get("data", {})
        return {point["key"]: float(point["value"]) for point in data.get("metrics", ())}, untied(data.get("params"))

    async def location(self, account: Account, run_id: str) -> str:
        """Where a run's files are: mlflow-artifacts:/… Raises NotFound."""
        return str((await self._get(account, run_id))["info"]["artifact_uri"])

    async def has_output(self, account: Account, run_id: str, model_id: str) -> bool:
        """Whether the model stands among the run's outputs."""
        run = await self._get(account, run_id)
        return any(one["model_id"] == model_id for one in run.get("outputs", {}).get("model_outputs", ()))

    async def _get(self, account: Account, run_id: str) -> dict[str, Any]:
        found = await self._rest.get(account, f"{API_2}/runs/get", params={"run_id": run_id}, about=("run", run_id))
        run: dict[str, Any] = found["run"]
        return run

    async def _log(self, account: Account, run_id: str, call: str, body: Mapping[str, Any]) -> None:
        """A call that adds what is not there yet. MLflow refuses one of two that add the same at the same moment."""
        path, said = f"{API_2}/runs/{call}", {"run_id": run_id, **body}
        await _AT_ONCE(self._rest.write, account, "POST", path, said, about=("run", run_id))

    async def _search(self, account: Account, experiment_ids: list[str], job_id: str) -> list[dict[str, Any]]:
        body = {"experiment_ids": experiment_ids, "filter": tagged(names.TAG_JOB, job_id), "max_results": 100}
        about = ("experiment", ", ".join(experiment_ids))
        found = await self._rest.query(account, f"{API_2}/runs/search", body, about=about)
        runs: list[dict[str, Any]] = found.get("runs", [])
        return runs

    async def _experiment_id(self, account: Account, name: str) -> str:
        """The experiment of that name: made where it is missing, restored where it was deleted."""
        about = ("experiment", name)
        for _ in range(2):
            try:
                found = await self._rest.get(
                    account, f"{API_2}/experiments/get-by-name", params={"experiment_name": name}, about=about
                )
            except NotFound:
                try:
                    made = await self._rest.write(
                        account, "POST", f"{API_2}/experiments/create", {"name": name}, about=about
                    )
                except AlreadyExists:
                    continue  # somebody else was faster
                return str(made["experiment_id"])
            experiment_id = str(found["experiment"]["experiment_id"])
            if found["experiment"].get("lifecycle_stage") == "deleted":
                await self._rest.write(
                    account, "POST", f"{API_2}/experiments/restore", {"experiment_id": experiment_id}, about=about
                )
            return experiment_id
        raise NotFound.of(*about)


def tagged(key: str, value: str) -> str:
    """MLflow's filter for what carries a tag.

    Raises InvalidRequest where the value could end the quotes that it stands in.
    """
    if "'" in value or "\\" in value:
        raise InvalidRequest.of("job_id", f"{value!r} is no job id")
    return f"tags.`{key}` = '{value}'"


def pairs(mapping: Mapping[str, str], max_chars: int) -> list[dict[str, str]]:
    """A mapping as MLflow writes it, its values cut to what MLflow keeps."""
    return [{"key": key, "value": value[:max_chars]} for key, value in mapping.items()]


def untied(found: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    """The inverse of `pairs`. MLflow leaves out empty values."""
    return {pair["key"]: pair.get("value", "") for pair in found or ()}


def millis(time: datetime) -> int:
    """Milliseconds since 1970, as MLflow counts time."""
    return round(time.timestamp() * MILLISECONDS)


def batches(items: Sequence[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Parts of at most `size`. No items, no parts."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch


def _claim(run: Mapping[str, Any]) -> Claim:
    return Claim(run["info"]["run_id"], names.TAG_CLAIMED in untied(run["data"].get("tags")))


def _point(point: Metric) -> dict[str, Any]:
    value: float | str = point.value
    if math.isnan(point.value):
        value = "NaN"
    elif math.isinf(point.value):
        value = math.copysign(sys.float_info.max, point.value)
    return {
        "key": names.metric(point.name),
        "value": value,
        "timestamp": millis(point.timestamp),
        "step": point.step,
    }


def _remember(known: OrderedDict[tuple[str, str], str], key: tuple[str, str], value: str) -> None:
    known[key] = value
    known.move_to_end(key)
    while len(known) > REMEMBERED:
        known.popitem(last=False)
