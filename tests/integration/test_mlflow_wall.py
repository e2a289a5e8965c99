"""What MLflow itself lets a tenant's account see, and what people's own client makes of what we log."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
import skops.io
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlops import names
from mlops.errors import NotFound, PermissionDenied, TrackingUnavailable
from mlops.jobs.model import Signature, SignatureColumn
from mlops.jobs.tracking import LoggedModel, RunStatus, StartedRun
from mlops.local.mlflow_server import wait_ready
from mlops.tracking.credentials import Account
from mlops.tracking.mlflow import MlflowTracking
from mlops.tracking.protocol import DatasetInput, Metric, ModelFiles
from tests.fixtures.mlflow import MlflowServer, free_port, tenant_named

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MLFLOW = "/api/2.0/mlflow"
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A tenant with one finished job."""

    tenant: str
    run: StartedRun
    model: LoggedModel
    artifact_path: str


@pytest.fixture
async def tracking(mlflow_server: MlflowServer) -> AsyncIterator[MlflowTracking]:
    async with mlflow_server.tracking() as made:
        yield made


@pytest.fixture(scope="module")
def iris() -> tuple[pd.DataFrame, Any]:
    features, target = load_iris(return_X_y=True, as_frame=True)
    return features, make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(features, target)


@pytest.fixture
def files(tmp_path: Path, iris: tuple[pd.DataFrame, Any]) -> ModelFiles:
    features, model = iris
    file = tmp_path / "model.skops"
    skops.io.dump(model, file)
    return ModelFiles(
        file=file,
        signature=Signature(
            inputs=tuple(SignatureColumn(name=str(name), type="double") for name in features.columns),
            outputs=(SignatureColumn(name="prediction", type="long"),),
        ),
        input_example=features.head(3).to_json(orient="split", index=False).encode(),
        trusted_types=tuple(skops.io.get_untrusted_types(file=file)),
        versions={"python": sys.version.split()[0], "scikit-learn": "1.9.1", "numpy": "2.0.0"},
    )


async def start(tracking: MlflowTracking, tenant: str, job_id: str) -> StartedRun:
    return await tracking.start_run(
        tenant,
        job_id=job_id,
        experiment="iris",
        run_name="iris",
        tags={names.TAG_OWNER: "ann"},
        params={"C": "1"},
        started_at=START,
    )


async def trained(tracking: MlflowTracking, tenant: str, files: ModelFiles) -> Trained:
    run = await start(tracking, tenant, "train-1")
    await tracking.log_artifact(tenant, run.run_id, "plots/roc.txt", b"a curve")
    await tracking.log_dataset(
        tenant,
        run.run_id,
        DatasetInput(dataset_id="ds-1", name="iris", sha256="ab" * 32, rows=150, columns=files.signature.inputs),
    )
    model = await tracking.log_model(tenant, run, job_id="train-1", model=files, params={"C": "1"}, tags={})
    points = [Metric(name="accuracy", value=0.9, timestamp=START)]
    await tracking.log_metrics(tenant, run.run_id, points, model_id=model.model_id)
    await tracking.register_version(
        tenant, model_name="iris", model=model, run_id=run.run_id, job_id="train-1", tags={}
    )
    await tracking.finish_run(tenant, run.run_id, RunStatus.FINISHED, ended_at=START + timedelta(seconds=9))
    path = f"workspaces/{tenant}/{run.experiment_id}/{run.run_id}/artifacts/plots/roc.txt"
    return Trained(tenant=tenant, run=run, model=model, artifact_path=path)


def calls_about(one: Trained) -> list[tuple[str, str, dict[str, Any]]]:
    run_id, experiment_id, model_id = one.run.run_id, one.run.experiment_id, one.model.model_id
    prefix = f"workspaces/{one.tenant}/{experiment_id}"
    return [
        ("GET", f"{MLFLOW}/experiments/get", {"params": {"experiment_id": experiment_id}}),
        ("GET", f"{MLFLOW}/experiments/get-by-name", {"params": {"experiment_name": "iris"}}),
        ("POST", f"{MLFLOW}/experiments/create", {"json": {"name": "intruder"}}),
        ("GET", f"{MLFLOW}/runs/get", {"params": {"run_id": run_id}}),
        ("POST", f"{MLFLOW}/runs/create", {"json": {"experiment_id": experiment_id}}),
        ("POST", f"{MLFLOW}/runs/log-metric", {"json": {"run_id": run_id, "key": "x", "value": 1, "timestamp": 1}}),
        ("POST", f"{MLFLOW}/runs/delete", {"json": {"run_id": run_id}}),
        ("GET", f"{MLFLOW}/metrics/get-history", {"params": {"run_id": run_id, "metric_key": "accuracy"}}),
        ("GET", f"{MLFLOW}/artifacts/list", {"params": {"run_id": run_id}}),
        ("GET", f"{MLFLOW}/logged-models/{model_id}", {}),
        ("DELETE", f"{MLFLOW}/logged-models/{model_id}", {}),
        ("GET", f"{MLFLOW}/registered-models/get", {"params": {"name": "iris"}}),
        ("DELETE", f"{MLFLOW}/registered-models/delete", {"json": {"name": "iris"}}),
        ("GET", f"{MLFLOW}/model-versions/get", {"params": {"name": "iris", "version": "1"}}),
        ("GET", f"{MLFLOW}/model-versions/get-download-uri", {"params": {"name": "iris", "version": "1"}}),
        ("GET", f"{ARTIFACTS}/{one.artifact_path}", {}),
        ("GET", f"{ARTIFACTS}", {"params": {"path": prefix}}),
        ("PUT", f"{ARTIFACTS}/{prefix}/{run_id}/artifacts/planted", {"content": b"x"}),
        ("DELETE", f"{ARTIFACTS}/{one.artifact_path}", {}),
        ("GET", f"{ARTIFACTS}/{prefix}/models/{model_id}/artifacts/model.skops", {}),
    ]


async def test_no_account_reaches_another_tenants_workspace(
    mlflow_server: MlflowServer,
    mlflow_tenant: Callable[[], Awaitable[str]],
    tracking: MlflowTracking,
    files: ModelFiles,
) -> None:
    both = [await trained(tracking, await mlflow_tenant(), files) for _ in range(2)]
    async with httpx.AsyncClient(base_url=mlflow_server.url, trust_env=False, timeout=30.0) as client:
        for mine, other in (both, both[::-1]):
            own = Account.of_tenant(mlflow_server.secret_key, mine.tenant)
            foreign = Account(user=own.user, password=own.password, workspace=other.tenant)
            for method, path, what in calls_about(other):
                answer = await client.request(method, path, headers=foreign.headers(), **what)
                assert answer.status_code == 403, (method, path, answer.text)
                # With the own header, the other's ids and paths lead nowhere either.
                answer = await client.request(method, path, headers=own.headers(), **what)
                if "iris" not in str(what) and "experiments/create" not in path:
                    assert answer.status_code in (400, 403, 404), (method, path, answer.text)
                assert other.tenant not in answer.text or answer.is_error
            # Searches answer with what is visible: nothing.
            for path, what in (
                ("runs/search", {"experiment_ids": [other.run.experiment_id]}),
                ("logged-models/search", {"experiment_ids": [other.run.experiment_id]}),
                ("experiments/search", {"max_results": 100}),
            ):
                answer = await client.post(f"{MLFLOW}/{path}", headers=foreign.headers(), json=what)
                assert answer.status_code == 403 or not any(answer.json().values()), answer.text
            for path in ("registered-models/search", "model-versions/search"):
                answer = await client.get(f"{MLFLOW}/{path}", headers=foreign.headers())
                assert answer.status_code == 403 or not any(answer.json().values()), answer.text
            anonymous = await client.get(f"{MLFLOW}/registered-models/search")
            assert anonymous.status_code == 401


async def test_a_foreign_id_is_answered_as_if_it_did_not_exist(
    mlflow_tenant: Callable[[], Awaitable[str]], tracking: MlflowTracking, files: ModelFiles
) -> None:
    one, other = await trained(tracking, await mlflow_tenant(), files), await mlflow_tenant()
    with pytest.raises(NotFound):
        await tracking.log_metrics(other, one.run.run_id, [Metric(name="x", value=1.0, timestamp=START)])
    with pytest.raises(NotFound):
        await tracking.log_artifact(other, one.run.run_id, "x", b"x")
    with pytest.raises(NotFound):
        await tracking.get_version(other, "iris", 1)
    # Neither may a question about a name spoil it for the job that makes the model.
    assert (await trained(tracking, other, files)).run != one.run


async def test_an_experiment_that_people_deleted_comes_back_with_the_next_run(
    mlflow_server: MlflowServer, mlflow_tenant: Callable[[], Awaitable[str]], tracking: MlflowTracking
) -> None:
    tenant = await mlflow_tenant()
    headers = Account.of_tenant(mlflow_server.secret_key, tenant).headers()
    run = await start(tracking, tenant, "train-1")
    async with httpx.AsyncClient(base_url=mlflow_server.url, headers=headers, trust_env=False, timeout=30.0) as client:
        gone = await client.post(f"{MLFLOW}/experiments/delete", json={"experiment_id": run.experiment_id})
        assert gone.is_success
        again = await start(tracking, tenant, "train-2")
        assert again.experiment_id == run.experiment_id
        found = await client.get(f"{MLFLOW}/experiments/get", params={"experiment_id": run.experiment_id})
        assert found.json()["experiment"]["lifecycle_stage"] == "active"


async def test_a_withdrawal_that_stopped_half_way_is_ended_by_the_next(
    mlflow_server: MlflowServer,
    mlflow_tenant: Callable[[], Awaitable[str]],
    tracking: MlflowTracking,
    files: ModelFiles,
) -> None:
    tenant = await mlflow_tenant()
    headers = Account.of_tenant(mlflow_server.secret_key, tenant).headers()
    one = await trained(tracking, tenant, files)
    async with httpx.AsyncClient(base_url=mlflow_server.url, headers=headers, trust_env=False, timeout=30.0) as client:

        async def rename() -> None:
            body = {"name": "iris", "new_name": names.withdrawn_model("iris", "train-1")}
            assert (await client.post(f"{MLFLOW}/registered-models/rename", json=body)).is_success

        # It stopped when it had moved a model aside that another job had just added to: that one is kept.
        await rename()
        await tracking.delete_version(tenant, model_name="iris", job_id="train-1")
        assert (await tracking.get_version(tenant, "iris", 1)).run_id == one.run.run_id
        # It stopped when it had moved an empty model aside.
        body = {"name": "iris", "version": "1"}
        assert (await client.request("DELETE", f"{MLFLOW}/model-versions/delete", json=body)).is_success
        await rename()
        await tracking.delete_version(tenant, model_name="iris", job_id="train-1")
    assert await tracking.list_models(tenant, name="", page_size=10, page_token="") == ((), "")


LOAD = """
import json, sys
import mlflow, pandas as pd
rows = pd.read_json(sys.argv[3], orient="split")
run = mlflow.get_run(sys.argv[1])
model = mlflow.get_logged_model(sys.argv[2])
print(json.dumps({
    "sklearn": mlflow.sklearn.load_model("models:/iris/1").predict(rows).tolist(),
    "pyfunc": mlflow.pyfunc.load_model(f"models:/{sys.argv[2]}").predict(rows).tolist(),
    "signature": mlflow.models.get_model_info("models:/iris/1").signature.to_dict(),
    "example": mlflow.pyfunc.load_model("models:/iris/1").input_example.shape,
    "status": run.info.status,
    "outputs": [one.model_id for one in run.outputs.model_outputs],
    "datasets": [one.dataset.name for one in run.inputs.dataset_inputs],
    "model_status": str(model.status),
    "model_metrics": {one.key: one.value for one in model.metrics},
}))
"""


async def test_people_load_a_logged_model_with_mlflows_own_client(
    mlflow_server: MlflowServer,
    mlflow_tenant: Callable[[], Awaitable[str]],
    tracking: MlflowTracking,
    files: ModelFiles,
    iris: tuple[pd.DataFrame, Any],
    tmp_path: Path,
) -> None:
    features, model = iris
    one = await trained(tracking, await mlflow_tenant(), files)
    rows = tmp_path / "rows.json"
    features.iloc[::10].to_json(rows, orient="split", index=False)
    account = Account.of_tenant(mlflow_server.secret_key, one.tenant)
    env = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")},
        "MLFLOW_TRACKING_URI": mlflow_server.url,
        "MLFLOW_TRACKING_USERNAME": account.user,
        "MLFLOW_TRACKING_PASSWORD": account.password,
        "MLFLOW_WORKSPACE": one.tenant,
        # MLflow asks this of whoever loads any model at all.
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PYTHONWARNINGS": "ignore",
    }
    argv = [sys.executable, "-c", LOAD, one.run.run_id, one.model.model_id, str(rows)]
    done = await asyncio.to_thread(
        subprocess.run, argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.strip().splitlines()[-1])
    expected = model.predict(features.iloc[::10]).tolist()
    assert said["sklearn"] == expected
    assert said["pyfunc"] == expected
    assert [column["name"] for column in json.loads(said["signature"]["inputs"])] == list(features.columns)
    assert said["example"] == [3, 4]
    assert said["status"] == "FINISHED"
    assert said["outputs"] == [one.model.model_id]
    assert said["datasets"] == ["iris"]
    assert said["model_status"] in ("READY", "LoggedModelStatus.READY")
    assert said["model_metrics"] == {"accuracy": 0.9}


async def test_a_tenant_may_be_set_up_and_taken_down_as_often_as_it_takes(
    mlflow_server: MlflowServer, tracking: MlflowTracking, files: ModelFiles
) -> None:
    tenant = tenant_named("comes-and-goes")
    admin = Account(
        user=mlflow_server.admin_user, password=mlflow_server.admin_password, workspace=names.workspace("default")
    )
    async with (
        mlflow_server.provider() as provider,
        httpx.AsyncClient(base_url=mlflow_server.url, trust_env=False, timeout=30.0) as client,
    ):
        for _ in range(2):
            for _ in range(2):
                await provider.ensure(tenant)
            one = await trained(tracking, tenant.slug, files)
            roles = await client.get(
                "/api/3.0/mlflow/roles/list", params={"workspace": tenant.slug}, headers=admin.headers()
            )
            ours = [role for role in roles.json()["roles"] if role["name"] == names.SERVICE_ROLE]
            assert [(p["resource_type"], p["permission"]) for p in ours[0]["permissions"]] == [
                ("workspace", "USE"),
                ("experiment", "MANAGE"),
                ("registered_model", "MANAGE"),
            ]
            for _ in range(2):
                await provider.remove(tenant.slug)
            with pytest.raises((PermissionDenied, NotFound)):
                await tracking.find_run(tenant.slug, "train-1")
            await provider.ensure(tenant)
            assert await tracking.find_run(tenant.slug, "train-1") is None
            answer = await client.get(
                f"{ARTIFACTS}/{one.artifact_path}",
                headers=Account.of_tenant(mlflow_server.secret_key, tenant.slug).headers(),
            )
            assert answer.is_error
        await provider.remove(tenant.slug)


async def test_wrong_administrators_credentials_are_said_to_be_so(mlflow_server: MlflowServer) -> None:
    wrong = MlflowServer(
        url=mlflow_server.url,
        admin_user=mlflow_server.admin_user,
        admin_password="something else",
        secret_key=mlflow_server.secret_key,
    )
    async with wrong.provider() as provider:
        with pytest.raises(PermissionDenied):
            await provider.ensure(tenant_named("never"))


async def test_a_server_that_is_away_may_be_asked_again() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with MlflowTracking(url, "s" * 32) as tracking:
        with pytest.raises(TrackingUnavailable) as caught:
            await tracking.find_run("acme", "train-1")
    assert caught.value.retryable
    with pytest.raises(TrackingUnavailable, match="not ready"):
        await wait_ready(url, timedelta(seconds=0.3))
