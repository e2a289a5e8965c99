"""One suite for what MLflow does and for what stands in for it in memory."""

from __future__ import annotations

import asyncio
import math
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops import names
from mlops.errors import InvalidRequest, NotFound, PermissionDenied
from mlops.jobs.model import ModelVersion, Signature, SignatureColumn
from mlops.jobs.tracking import LoggedModel, RunStatus, StartedRun
from mlops.tracking.mlmodel import skops_file
from mlops.tracking.protocol import DatasetInput, Metric, ModelFiles, Tracking
from tests.fixtures.mlflow import MlflowServer, tenant_named
from tests.fixtures.tracking import MemoryTracking

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIGNATURE = Signature(
    inputs=(SignatureColumn(name="a", type="double"), SignatureColumn(name="b c", type="string", required=False)),
    outputs=(SignatureColumn(name="prediction", type="long"),),
)
LINEAGE = {
    names.TAG_OWNER: "ann",
    names.TAG_DATASET: "ds-1",
    names.TAG_DATASET_SHA256: "ab" * 32,
    names.TAG_ESTIMATOR: "sklearn.svm.SVC",
    names.TAG_TASK: "classification",
    names.TAG_VERSIONS: '{"python": "3.11.7"}',
}


@pytest.fixture(params=["memory", "mlflow"])
def server(request: pytest.FixtureRequest) -> MlflowServer | None:
    if request.param == "memory":
        return None
    found: MlflowServer = request.getfixturevalue("mlflow_server")
    return found


@pytest.fixture
async def tracking(server: MlflowServer | None) -> AsyncIterator[Tracking]:
    if server is None:
        yield MemoryTracking()
    else:
        async with server.tracking() as made:
            yield made


@pytest.fixture
async def new_tenant(tracking: Tracking, server: MlflowServer | None) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    made: list[str] = []

    async def make() -> str:
        slug = f"t-{secrets.token_hex(4)}"
        if isinstance(tracking, MemoryTracking):
            tracking.add(slug)
        if server is not None:
            made.append(slug)
            async with server.provider() as provider:
                await provider.ensure(tenant_named(slug))
        return slug

    yield make
    if server is not None:
        async with server.provider() as provider:
            for slug in made:
                await provider.remove(slug)


@pytest.fixture
async def tenant(new_tenant: Callable[[], Awaitable[str]]) -> str:
    return await new_tenant()


@pytest.fixture
def files(tmp_path: Path) -> ModelFiles:
    file = tmp_path / "model.skops"
    file.write_bytes(b"not really skops" * 1000)
    return ModelFiles(
        file=file,
        signature=SIGNATURE,
        input_example=b'{"columns": ["a", "b c"], "data": [[1.0, "x"]]}',
        trusted_types=("sklearn.tree._tree.Tree",),
        versions={"python": "3.11.7", "scikit-learn": "1.9.1"},
    )


async def start(
    tracking: Tracking, tenant: str, job_id: str = "train-1", params: dict[str, str] | None = None
) -> StartedRun:
    return await tracking.start_run(
        tenant,
        job_id=job_id,
        experiment="churn",
        run_name="churn of today",
        tags={names.TAG_TENANT: tenant, names.TAG_OWNER: "ann"},
        params={"C": "1.0"} if params is None else params,
        started_at=START,
    )


async def log(tracking: Tracking, tenant: str, run: StartedRun, files: ModelFiles, job_id: str) -> LoggedModel:
    return await tracking.log_model(tenant, run, job_id=job_id, model=files, params={"C": "1.0"}, tags=LINEAGE)


async def register(
    tracking: Tracking, tenant: str, files: ModelFiles, job_id: str = "train-1", model_name: str = "churn"
) -> int:
    run = await start(tracking, tenant, job_id)
    model = await log(tracking, tenant, run, files, job_id)
    return await tracking.register_version(
        tenant, model_name=model_name, model=model, run_id=run.run_id, job_id=job_id, tags=LINEAGE
    )


async def read(tracking: Tracking, tenant: str, version: ModelVersion, name: str) -> bytes:
    return b"".join([chunk async for chunk in tracking.model_file(tenant, version, name)])


def point(name: str, value: float, step: int = 0) -> Metric:
    return Metric(name=name, value=value, step=step, timestamp=START + timedelta(seconds=step))


async def test_a_run_that_is_started_again_is_the_same_run(tracking: Tracking, tenant: str) -> None:
    first = await start(tracking, tenant)
    assert await start(tracking, tenant) == first
    assert await start(tracking, tenant, "train-2") != first


async def test_writers_that_race_for_a_job_all_get_one_run(tracking: Tracking, tenant: str) -> None:
    runs = await asyncio.gather(*(start(tracking, tenant) for _ in range(5)))
    assert len(set(runs)) == 1
    assert await tracking.find_run(tenant, "train-1") == runs[0]
    await tracking.log_metrics(tenant, runs[0].run_id, [point("loss", 1.0)])


async def test_a_run_is_found_by_its_job_alone(tracking: Tracking, tenant: str) -> None:
    assert await tracking.find_run(tenant, "train-1") is None
    run = await start(tracking, tenant)
    assert await tracking.find_run(tenant, "train-1") == run
    assert await tracking.find_run(tenant, "train-") is None


async def test_a_job_id_cannot_end_the_query_it_stands_in(tracking: Tracking, tenant: str) -> None:
    await start(tracking, tenant)
    with suppress(InvalidRequest):  # refused is as good as not found
        assert await tracking.find_run(tenant, "x' OR tags.a = 'b") is None


async def test_more_parameters_than_a_batch_holds_and_longer_ones_than_are_kept_arrive(
    tracking: Tracking, tenant: str, files: ModelFiles
) -> None:
    params = {f"p{i}": str(i) for i in range(230)} | {"long": "x" * 7000, "odd ⚠ key": "é"}
    run = await start(tracking, tenant, params=params)
    assert await start(tracking, tenant, params=params) == run
    model = await log(tracking, tenant, run, files, "train-1")
    version = await tracking.register_version(
        tenant, model_name="churn", model=model, run_id=run.run_id, job_id="train-1", tags=LINEAGE
    )
    kept = (await tracking.get_version(tenant, "churn", version)).params
    assert len(kept) == 232
    assert kept["p229"] == "229"
    assert len(kept["long"]) == 6000
    assert kept["odd _ key"] == "é"


async def test_metrics_keep_their_last_step_and_nan_and_stay_finite(
    tracking: Tracking, tenant: str, files: ModelFiles
) -> None:
    version = await register(tracking, tenant, files)
    run = await tracking.find_run(tenant, "train-1")
    assert run is not None
    points = [point("loss", 1.0 / step, step) for step in range(1, 1102)]
    odd = [point("nan", math.nan), point("inf", math.inf), point("-inf", -math.inf), point("fold 0/f1 (macro)", 0.5)]
    for _ in range(2):
        await tracking.log_metrics(tenant, run.run_id, [*points, *odd])
    metrics = (await tracking.get_version(tenant, "churn", version)).metrics
    assert metrics["loss"] == pytest.approx(1 / 1101)
    assert math.isnan(metrics["nan"])
    assert metrics["inf"] == sys.float_info.max
    assert metrics["-inf"] == -sys.float_info.max
    assert metrics["fold 0/f1 _macro_"] == 0.5


async def test_what_is_logged_to_a_run_that_is_not_there_is_refused(tracking: Tracking, tenant: str) -> None:
    missing = secrets.token_hex(16)
    with pytest.raises(NotFound):
        await tracking.log_metrics(tenant, missing, [point("a", 1.0)])
    with pytest.raises(NotFound):
        await tracking.log_artifact(tenant, missing, "a.txt", b"x")
    with pytest.raises(NotFound):
        await tracking.finish_run(tenant, missing, RunStatus.FAILED, ended_at=START)


async def test_datasets_and_files_may_be_logged_twice(tracking: Tracking, tenant: str, tmp_path: Path) -> None:
    run = await start(tracking, tenant)
    dataset = DatasetInput(dataset_id="ds-1", name="churn", sha256="ab" * 32, rows=10, columns=SIGNATURE.inputs)
    large = tmp_path / "report.bin"
    large.write_bytes(b"0123456789" * 300_000)
    for _ in range(2):
        await tracking.log_dataset(tenant, run.run_id, dataset)
        await tracking.log_artifact(tenant, run.run_id, "plots/roc curve.png", b"png")
        await tracking.log_artifact(tenant, run.run_id, "report.bin", large)
        await tracking.log_artifact(tenant, run.run_id, "empty.txt", b"")


async def test_a_file_cannot_leave_its_run(tracking: Tracking, tenant: str) -> None:
    run = await start(tracking, tenant)
    with pytest.raises(InvalidRequest):
        await tracking.log_artifact(tenant, run.run_id, "../../other/x", b"x")


async def test_a_model_is_logged_once(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    run = await start(tracking, tenant)
    first = await log(tracking, tenant, run, files, "train-1")
    assert first.uri == f"models:/{first.model_id}"
    assert await log(tracking, tenant, run, files, "train-1") == first
    await tracking.log_metrics(tenant, run.run_id, [point("accuracy", 0.9)], model_id=first.model_id)
    raced = await asyncio.gather(*(log(tracking, tenant, run, files, "train-2") for _ in range(3)))
    assert len(set(raced)) == 1


async def test_a_version_tells_where_it_came_from(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    assert await register(tracking, tenant, files) == 1
    run = await tracking.find_run(tenant, "train-1")
    assert run is not None
    version = await tracking.get_version(tenant, "churn", 1)
    assert (version.model_name, version.version) == ("churn", 1)
    assert (version.job_id, version.run_id) == ("train-1", run.run_id)
    assert (version.owner, version.dataset_id, version.dataset_sha256) == ("ann", "ds-1", "ab" * 32)
    assert (version.estimator, version.task) == ("sklearn.svm.SVC", "classification")
    assert version.library_versions == {"python": "3.11.7"}
    assert version.params == {"C": "1.0"}
    assert version.signature == SIGNATURE
    assert version.size_bytes == 16_000
    assert version.artifact_uri
    assert abs(datetime.now(UTC) - version.created_at) < timedelta(minutes=5)


async def test_a_version_is_found_quickly_and_its_files_are_read(
    tracking: Tracking, tenant: str, files: ModelFiles, tmp_path: Path
) -> None:
    (tmp_path / "model.onnx").write_bytes(b"onnx" * 1000)
    extras: dict[str, Path | bytes] = {"card.json": b"{}", "model.onnx": tmp_path / "model.onnx"}
    assert await register(tracking, tenant, replace(files, extras=extras)) == 1
    version = await tracking.find_version(tenant, "churn", 1)
    assert (version.version, version.owner, version.metrics) == (1, "ann", {})
    assert await read(tracking, tenant, version, "model.skops") == files.file.read_bytes()
    assert await read(tracking, tenant, version, "card.json") == b"{}"
    assert await read(tracking, tenant, version, "model.onnx") == b"onnx" * 1000
    assert skops_file(await read(tracking, tenant, version, "MLmodel")) == "model.skops"
    for missing in ("nothing.json", "../MLmodel"):
        with pytest.raises((NotFound, InvalidRequest)):
            await read(tracking, tenant, version, missing)
    with pytest.raises(NotFound):
        await tracking.find_version(tenant, "churn", "champion")


async def test_another_tenants_model_files_are_not_found(
    tracking: Tracking, new_tenant: Callable[[], Awaitable[str]], files: ModelFiles
) -> None:
    mine, other = await new_tenant(), await new_tenant()
    await register(tracking, mine, files)
    version = await tracking.find_version(mine, "churn", 1)
    with pytest.raises(NotFound):
        await tracking.find_version(other, "churn", 1)
    with pytest.raises(NotFound):
        await read(tracking, other, version, "model.skops")


async def test_a_job_registers_one_version_however_often_it_tries(
    tracking: Tracking, tenant: str, files: ModelFiles
) -> None:
    run = await start(tracking, tenant)
    model = await log(tracking, tenant, run, files, "train-1")

    async def once() -> int:
        return await tracking.register_version(
            tenant, model_name="churn", model=model, run_id=run.run_id, job_id="train-1", tags=LINEAGE
        )

    assert set(await asyncio.gather(*(once() for _ in range(4)))) == {await once()}
    versions, _ = await tracking.list_versions(tenant, "churn", page_size=10, page_token="")
    assert len(versions) == 1
    assert await register(tracking, tenant, files, "train-2") > versions[0].version


async def test_a_withdrawn_version_takes_the_model_that_its_job_made_along(
    tracking: Tracking, tenant: str, files: ModelFiles
) -> None:
    await register(tracking, tenant, files)
    for _ in range(2):
        await tracking.delete_version(tenant, model_name="churn", job_id="train-1")
    with pytest.raises(NotFound):
        await tracking.get_model(tenant, "churn")
    assert (await tracking.list_models(tenant, name="", page_size=10, page_token=""))[0] == ()
    await register(tracking, tenant, files)
    assert (await tracking.get_model(tenant, "churn")).name == "churn"


async def test_a_withdrawn_version_leaves_the_others_alone(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    await register(tracking, tenant, files, "train-1")
    await register(tracking, tenant, files, "train-2")
    await tracking.delete_version(tenant, model_name="churn", job_id="train-1")
    versions, _ = await tracking.list_versions(tenant, "churn", page_size=10, page_token="")
    assert [version.job_id for version in versions] == ["train-2"]
    await tracking.delete_version(tenant, model_name="churn", job_id="train-2")
    # The job that made the model is not the one that left it empty.
    assert (await tracking.get_model(tenant, "churn")).latest_version == 0
    await tracking.delete_version(tenant, model_name="never-there", job_id="train-2")


@pytest.mark.parametrize("status", list(RunStatus))
async def test_a_run_may_be_ended_twice(tracking: Tracking, tenant: str, status: RunStatus) -> None:
    run = await start(tracking, tenant)
    for _ in range(2):
        await tracking.finish_run(tenant, run.run_id, status, ended_at=START, message="because")
    assert await tracking.find_run(tenant, "train-1") == run


async def test_models_are_listed_by_name_in_pages(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    for index, name in enumerate(["churn_b", "churn_a", "churnXa", "price"]):
        await register(tracking, tenant, files, f"train-{index}", name)
    everything = await all_models(tracking, tenant, "", page_size=3)
    assert everything == sorted(["churn_b", "churn_a", "churnXa", "price"])
    assert sorted(await all_models(tracking, tenant, "churn_*", page_size=1)) == ["churn_a", "churn_b"]
    assert await all_models(tracking, tenant, "churn_a", page_size=10) == ["churn_a"]
    assert await all_models(tracking, tenant, "churn_", page_size=10) == []
    assert await all_models(tracking, tenant, "' OR name LIKE '", page_size=10) == []
    assert await all_models(tracking, tenant, "%*", page_size=10) == []


async def all_models(tracking: Tracking, tenant: str, name: str, page_size: int) -> list[str]:
    found: list[str] = []
    token = ""
    for _ in range(20):
        models, token = await tracking.list_models(tenant, name=name, page_size=page_size, page_token=token)
        assert len(models) <= page_size
        found.extend(model.name for model in models)
        if not token:
            return found
    raise AssertionError("the list has no end")


async def test_a_page_token_of_another_list_is_refused(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    for index in range(2):
        await register(tracking, tenant, files, f"train-{index}", f"churn-{index}")
    _, token = await tracking.list_models(tenant, name="", page_size=1, page_token="")
    assert token
    for other in (token, "nonsense"):
        with pytest.raises(InvalidRequest, match="page_token"):
            await tracking.list_models(tenant, name="churn*", page_size=1, page_token=other)
        with pytest.raises(InvalidRequest, match="page_token"):
            await tracking.list_versions(tenant, "churn-0", page_size=1, page_token=other)


async def test_versions_are_listed_newest_first_in_pages(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    for index in range(3):
        await register(tracking, tenant, files, f"train-{index}")
    first, token = await tracking.list_versions(tenant, "churn", page_size=2, page_token="")
    second, end = await tracking.list_versions(tenant, "churn", page_size=2, page_token=token)
    assert [version.version for version in (*first, *second)] == [3, 2, 1]
    assert [version.job_id for version in (*first, *second)] == ["train-2", "train-1", "train-0"]
    assert end == ""
    model = await tracking.get_model(tenant, "churn")
    assert model.latest_version == 3
    assert model.created_at <= model.updated_at


async def test_an_alias_is_set_moved_and_removed(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    for index in range(2):
        await register(tracking, tenant, files, f"train-{index}")
    for version in (1, 2):
        await tracking.set_alias(tenant, "churn", "champion", version)
        assert (await tracking.find_version(tenant, "churn", "champion")).version == version
        assert (await tracking.get_model(tenant, "churn")).aliases == {"champion": version}
    for _ in range(2):
        await tracking.delete_alias(tenant, "churn", "champion")
        assert (await tracking.get_model(tenant, "churn")).aliases == {}
    for name, version in (("churn", 3), ("other", 1)):
        with pytest.raises(NotFound):
            await tracking.set_alias(tenant, name, "champion", version)
    with pytest.raises(NotFound):
        await tracking.delete_alias(tenant, "other", "champion")


async def test_what_is_not_there_is_not_found(tracking: Tracking, tenant: str, files: ModelFiles) -> None:
    await register(tracking, tenant, files)
    for which in (2, "champion"):
        with pytest.raises(NotFound):
            await tracking.get_version(tenant, "churn", which)
    for name in ("other", "it's", "a/b", ""):
        with pytest.raises(NotFound):
            await tracking.get_model(tenant, name)
        with pytest.raises(NotFound):
            await tracking.get_version(tenant, name, 1)
        with pytest.raises(NotFound):
            await tracking.list_versions(tenant, name, page_size=10, page_token="")


async def test_tenants_may_use_the_same_names(
    tracking: Tracking, new_tenant: Callable[[], Awaitable[str]], files: ModelFiles
) -> None:
    one, other = await new_tenant(), await new_tenant()
    await register(tracking, one, files)
    assert await tracking.find_run(other, "train-1") is None
    with pytest.raises(NotFound):
        await tracking.get_model(other, "churn")
    assert await register(tracking, other, files) == 1


async def test_a_tenant_that_does_not_exist_may_do_nothing(tracking: Tracking) -> None:
    with pytest.raises((PermissionDenied, NotFound)):
        await start(tracking, "nobody")
