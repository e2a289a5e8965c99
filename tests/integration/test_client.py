"""The SDK against a fake platform, over real gRPC."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from mlops import AsyncClient, Client, errors
from mlops.client.batchhandle import AsyncBatchHandle
from mlops.client.blocking.batchhandle import BatchHandle
from mlops.client.blocking.handle import Handle, JobHandle
from mlops.client.blocking.loop import LoopThread
from mlops.client.handle import AsyncHandle, AsyncJobHandle
from mlops.client.retry import RetryPolicy
from mlops.client.upload import UploadMessages
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.job import JobEvent, JobState
from mlops.jobs.training import TrainingSpec
from mlops.tenants.tenant import Role
from mlops.v1 import datasets_pb2
from tests.fixtures import fake_values
from tests.fixtures.fake_platform import API_KEY, FakePlatform, FakeServer

QUICK = RetryPolicy(first_delay=timedelta(milliseconds=10), longest_delay=timedelta(milliseconds=50))


@pytest.fixture
def client(fake_platform: FakePlatform) -> Iterator[Client]:
    with Client(fake_platform.address, API_KEY, retry=QUICK, timeout=20) as client:
        yield client


@pytest.fixture
async def aclient(fake_platform: FakePlatform) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake_platform.address, API_KEY, retry=QUICK, timeout=20) as client:
        yield client


# --- the two surfaces --------------------------------------------------------------------------


def surface(kind: type) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__init__":
            continue
        if inspect.isfunction(member):
            parameters = inspect.signature(member).parameters.values()
            found[name] = [(p.name, p.kind, p.default, p.annotation) for p in parameters]
            if name == "__init__" and kind not in (Client, AsyncClient):
                found.pop(name)
        else:
            found[name] = type(member)
    return found


def test_the_asynchronous_client_has_the_same_names_and_signatures(client: Client) -> None:
    twin = client._client
    assert surface(Client) == surface(AsyncClient)
    assert surface(Handle) == surface(AsyncHandle)
    assert surface(JobHandle) == surface(AsyncJobHandle)
    assert surface(BatchHandle) == surface(AsyncBatchHandle)
    for noun in ("datasets", "jobs", "models", "tenants", "keys"):
        assert surface(type(getattr(client, noun))) == surface(type(getattr(twin, noun))), noun


def test_importing_the_client_loads_no_server_and_no_scikit_learn() -> None:
    code = (
        "import sys, mlops.client, mlops.cli.main; mlops.client.Client; "
        "print([m for m in ('sklearn', 'numpy', 'pandas', 'pyarrow', 'temporalio', 'mlflow', 'sqlalchemy')"
        " if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


# --- datasets ----------------------------------------------------------------------------------


def test_a_file_is_uploaded_in_chunks_with_its_checksum(
    client: Client, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    path = tmp_path / "churn.v2.csv"
    path.write_bytes(b"age,left\n" + b"44,true\n" * 400_000)
    seen: list[tuple[int, int]] = []
    dataset = client.datasets.upload(path, labels={"a": "b"}, progress=lambda sent, total: seen.append((sent, total)))
    size = path.stat().st_size
    assert dataset.name == "churn"
    assert dataset.size_bytes == size
    assert fake_platform.headers[0].file_name == "churn.v2.csv"
    assert seen[0] == (0, size)
    assert seen[-1] == (size, size)
    assert len(seen) == size // 1024**2 + 2


def test_a_data_frame_is_uploaded_as_parquet(client: Client, fake_platform: FakePlatform, tmp_path: Path) -> None:
    frame = pd.DataFrame({"age": [44.0, None], "city": pd.Categorical(["x", "y"]), 3: [1, 2]}, index=[7, 9])
    first = client.datasets.upload(frame, "people")
    again = client.datasets.upload(frame, "people")
    assert first.id == again.id
    assert fake_platform.headers[0].file_name == "table.parquet"
    assert first.name == "people"
    from mlops.client.upload import source_file

    with source_file(frame) as path:
        assert pq.read_table(path).column_names == ["age", "city", "3"]


def test_what_cannot_be_uploaded_is_refused_by_name(client: Client, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"'/no/such\.csv' does not exist"):
        client.datasets.upload("/no/such.csv")
    with pytest.raises(errors.InvalidRequest, match="is no file"):
        client.datasets.upload(tmp_path)
    with pytest.raises(errors.InvalidRequest, match=r"builtins\.list is neither a path nor a table"):
        client.datasets.upload([1, 2], "x")
    with pytest.raises(errors.InvalidRequest, match="name: is required for a table"):
        client.datasets.upload(pd.DataFrame({"a": [1]}))
    with pytest.raises(errors.InvalidRequest, match="cannot be written as Parquet"):
        client.datasets.upload(pd.DataFrame({"a": [1, "x"]}), "mixed")


def test_an_upload_that_the_server_refuses_early_says_why(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.truncate(60 * 1024**2)
    with pytest.raises(errors.QuotaExceeded, match="max_dataset_bytes") as caught:
        client.datasets.upload(path)
    assert caught.value.limit == "max_dataset_bytes"


def test_an_upload_is_sent_again_when_the_service_was_away(
    client: Client, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n")
    fake_platform.failures["UploadDataset"] = [errors.Unavailable("restarting")]
    assert client.datasets.upload(path).size_bytes == 4
    assert fake_platform.calls["UploadDataset"] == 2


def test_a_list_fetches_further_pages_only_when_they_are_reached(client: Client, fake_platform: FakePlatform) -> None:
    for number in range(5):
        id = f"ds-{number + 1:032x}"
        fake_platform.datasets[id] = fake_values.dataset(id, name=f"d{number}")
    listed = client.datasets.list(page_size=2)
    assert next(iter(listed)).name == "churn"
    assert fake_platform.calls["ListDatasets"] == 1
    assert [dataset.name for dataset in listed] == ["d0", "d1", "d2", "d3", "d4"]
    assert fake_platform.calls["ListDatasets"] == 3


def test_a_preview_tells_missing_from_empty(client: Client) -> None:
    assert client.datasets.preview("churn", 2).rows == (("44", "true"), (None, "false"))


def test_a_deletion_whose_answer_was_lost_is_no_error(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.failures["after DeleteDataset"] = [errors.Unavailable("the answer is lost")]
    client.datasets.delete(fake_values.dataset())
    assert fake_platform.calls["DeleteDataset"] == 2
    with pytest.raises(errors.NotFound):
        client.datasets.delete(fake_values.CHURN_ID)


# --- training ----------------------------------------------------------------------------------


def test_training_runs_to_its_result(client: Client, fake_platform: FakePlatform) -> None:
    estimator = EstimatorSpec(path="sklearn.svm.SVC", params={"C": ParamValue(number=2.0)})
    job = client.train(
        estimator,
        fake_values.dataset(),
        target="left",
        name="churn",
        folds=5,
        holdout=0.25,
        scoring="accuracy",
        cpus=2,
        memory="1.5GiB",
        time_limit="1h30m",
        labels={"team": "a"},
    )
    assert job.status == "queued"
    assert job.result is None
    result = job.wait(timeout=20)
    assert result.model_version == 1
    assert job.job.state == JobState.SUCCEEDED
    assert job.job.result == result
    spec = fake_platform.submitted[0]
    assert spec.dataset == fake_values.CHURN_ID
    assert spec.model_name == "churn"
    assert spec.estimator == estimator
    assert spec.validation.folds == 5
    assert spec.validation.holdout_fraction == 0.25
    assert spec.scoring == ("accuracy",)
    assert spec.resources.cpus == 2
    assert spec.resources.memory_bytes == 3 * 2**29
    assert spec.time_limit == timedelta(minutes=90)
    assert spec.labels == {"team": "a"}


def test_a_real_estimator_becomes_its_spec(client: Client, fake_platform: FakePlatform) -> None:
    from sklearn.ensemble import RandomForestClassifier

    client.train(RandomForestClassifier(n_estimators=7), "churn", target="left")
    spec = fake_platform.submitted[0].estimator
    assert spec is not None
    assert spec.path == "sklearn.ensemble.RandomForestClassifier"
    assert spec.params == {"n_estimators": ParamValue(integer=7)}


def test_a_bad_argument_is_named_before_anything_is_sent(client: Client, fake_platform: FakePlatform) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.train(None, "churn", target="left", folds=99, cpus=0, splitter="random")
    assert set(caught.value.violations) == {"folds", "cpus", "splitter"}
    with pytest.raises(errors.InvalidRequest, match="memory: 'lots' is no size"):
        client.train(None, "churn", target="left", memory="lots")
    with pytest.raises(errors.InvalidRequest, match="time_limit: 'soon' is no duration"):
        client.train(None, "churn", target="left", time_limit="soon")
    assert not fake_platform.submitted


def test_a_submit_whose_answer_was_lost_starts_one_job(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.failures["SubmitTraining"] = [errors.Unavailable("away"), errors.SchedulerUnavailable("away")]
    job = client.train(None, "churn", target="left", request_id="nightly")
    assert job.id == "nightly"
    assert client.train(None, "churn", target="left", request_id="nightly").id == "nightly"
    assert len(fake_platform.submitted) == 1


def test_validation_starts_nothing(client: Client, fake_platform: FakePlatform) -> None:
    validated = client.validate(None, "churn", target="left", folds=3)
    assert validated.plan.folds == 3
    assert validated.steps == ("fit", "evaluate")
    assert not fake_platform.submitted


def test_waiting_for_a_failed_job_raises_with_its_reason(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.fail_job("train-9")
    with pytest.raises(errors.JobFailed, match=r"ValueError: Input contains NaN\. Try: impute them") as caught:
        client.job("train-9").wait(10)
    assert caught.value.step == "fit"
    assert caught.value.hint == "impute them"
    assert caught.value.details["job_id"] == "train-9"


def test_waiting_for_a_cancelled_job_raises(client: Client) -> None:
    job = client.job("train-2")
    assert job.cancel("typo").state is JobState.CANCELLED
    with pytest.raises(errors.JobCancelled, match="'train-2' was cancelled"):
        job.wait(10)


def test_a_wait_that_times_out_leaves_the_job_running(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.endless.add("train-2")
    job = client.job("train-2")
    with pytest.raises(errors.DeadlineExceeded, match=r"still running after 0\.2 s"):
        job.wait(timedelta(seconds=0.2))
    assert client.jobs.get("train-2").state is JobState.RUNNING


def test_metrics_give_one_number_a_scorer(client: Client) -> None:
    metrics = client.job("train-1").metrics()
    assert metrics.scores == {"accuracy": 0.92, "roc_auc": 0.95}
    assert metrics.cross_validation[0].mean == 0.9
    assert metrics.steps == {"fit": {"loss": 0.25}}


def test_who_waits_survives_a_restart_of_the_gateway(
    client: Client, fake_platform: FakePlatform, fake_server: FakeServer
) -> None:
    fake_platform.drops = [0, 0]
    assert client.jobs.wait("train-1").state is JobState.SUCCEEDED
    assert fake_platform.calls["WatchJob"] == 3
    fake_server.restart()
    assert client.jobs.wait("train-1").result is not None
    with pytest.raises(errors.NotFound):
        client.jobs.wait("train-404")


# --- watching ----------------------------------------------------------------------------------


def history() -> list[JobEvent]:
    return list(fake_values.events(fake_values.job("train-1", JobState.SUCCEEDED)))


def test_a_watch_sees_everything_once(client: Client) -> None:
    assert list(client.job("train-1").watch()) == history()


@pytest.mark.parametrize("drops", [[0], [1], [3], [4], [2, 0, 1, 2], [5, 1], [8]])
def test_a_watch_resumes_without_losing_or_doubling_an_event(
    client: Client, fake_platform: FakePlatform, drops: list[int]
) -> None:
    fake_platform.drops = list(drops)
    seen = list(client.jobs.watch("train-1"))
    # Numbers inside a step are no history: those that a break swallowed are gone, but none comes twice.
    kept = [event for event in history() if event.step is None or event.step.fraction in (None, 1.0)]
    assert [event for event in seen if event.step is None or event.step.fraction in (None, 1.0)] == kept
    assert len({event.model_dump_json() for event in seen}) == len(seen)
    assert fake_platform.calls["WatchJob"] == len(drops) + 1


def test_a_watch_survives_a_restart_of_the_gateway(
    client: Client, fake_platform: FakePlatform, fake_server: FakeServer
) -> None:
    fake_platform.endless.add("train-1")
    events = client.jobs.watch("train-1")
    seen = [next(iter(events)) for _ in range(8)]
    fake_platform.endless.clear()
    fake_server.restart()
    assert seen + list(events) == history()


def test_a_watch_goes_on_behind_a_cursor(client: Client) -> None:
    assert list(client.jobs.watch("train-1", "4")) == [event for event in history() if int(event.cursor) > 4]


def test_a_watch_of_an_unknown_job_fails_at_once(client: Client, fake_platform: FakePlatform) -> None:
    with pytest.raises(errors.NotFound):
        list(client.jobs.watch("train-404"))
    assert fake_platform.calls["WatchJob"] == 1


def test_a_watch_gives_up_after_its_patience(fake_platform: FakePlatform) -> None:
    impatient = RetryPolicy(first_delay=timedelta(milliseconds=10), patience=timedelta(milliseconds=300))
    fake_platform.drops = [0] * 1000
    with Client(fake_platform.address, API_KEY, retry=impatient) as client, pytest.raises(errors.Unavailable):
        list(client.jobs.watch("train-1"))


def test_a_watch_that_is_left_early_is_closed(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.endless.add("train-2")
    for event in client.job("train-2").watch():
        assert event.state is JobState.QUEUED
        break
    assert client.jobs.get("train-2").id == "train-2"


# --- errors, retries, deadlines ----------------------------------------------------------------


def test_an_error_arrives_as_the_class_that_was_raised(client: Client, fake_platform: FakePlatform) -> None:
    raised = [
        errors.InvalidRequest("bad", violations={"spec.target": "is missing"}),
        errors.RequestIdReused("taken"),
        errors.QuotaExceeded("full", limit="max_active_jobs"),
        errors.FailedPrecondition("not now"),
        errors.PermissionDenied("no"),
        errors.Internal("incident 7"),
    ]
    for error in raised:
        fake_platform.failures["SubmitTraining"] = [error]
        with pytest.raises(type(error)) as caught:
            client.jobs.submit(TrainingSpec(dataset="churn", target="left"))
        assert type(caught.value) is type(error)
        assert caught.value.message == error.message
    assert fake_platform.calls["SubmitTraining"] == len(raised), "only what is away is tried again"


def test_a_service_that_stays_away_is_reported_after_the_last_try(fake_platform: FakePlatform) -> None:
    fake_platform.failures["GetJob"] = [errors.TrackingUnavailable("MLflow is away") for _ in range(9)]
    hurried = Client(fake_platform.address, API_KEY, retry=QUICK, timeout=2.5)
    with hurried, pytest.raises(errors.TrackingUnavailable):
        hurried.jobs.get("train-1")
    assert 2 <= fake_platform.calls["GetJob"] <= 3, "the server asks for a second between two tries"


def test_a_key_is_never_created_twice_by_a_retry(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.failures["CreateApiKey"] = [errors.Unavailable("the answer is lost")]
    with pytest.raises(errors.Unavailable):
        client.keys.create("ada")
    assert fake_platform.calls["CreateApiKey"] == 1


def test_nothing_at_the_address_is_said_so() -> None:
    with Client("127.0.0.1:1", API_KEY, retry=QUICK) as client, pytest.raises(errors.Unavailable) as caught:
        client.jobs.get("train-1")
    assert "no gateway answers at 127.0.0.1:1" in caught.value.message


def test_a_wrong_key_is_refused(fake_platform: FakePlatform) -> None:
    with Client(fake_platform.address, "mlops_wrong") as client, pytest.raises(errors.Unauthenticated):
        client.jobs.get("train-1")


def test_a_closed_client_says_so(fake_platform: FakePlatform) -> None:
    client = Client(fake_platform.address, API_KEY)
    client.jobs.get("train-1")
    client.close()
    client.close()
    with pytest.raises(errors.FailedPrecondition, match="closed"):
        client.jobs.get("train-1")


def test_threads_share_a_client(client: Client) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(client.jobs.get("train-1").id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == ["train-1"] * 8


def test_a_broken_callback_and_a_vanished_file_end_the_upload_with_their_error(
    client: Client, tmp_path: Path, fake_platform: FakePlatform
) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a\n1\n")

    def breaks(sent: int, total: int) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        client.datasets.upload(path, progress=breaks)
    assert list(fake_platform.datasets) == [fake_values.CHURN_ID]
    messages = UploadMessages(tmp_path / "gone.csv", datasets_pb2.UploadHeader(), None)
    assert list(messages) == []
    assert isinstance(messages.failure, errors.InvalidRequest)
    assert "gone.csv' cannot be read" in messages.failure.message


def test_the_loop_that_serves_the_client_refuses_to_wait_for_itself() -> None:
    loop = LoopThread()

    async def inner() -> None:
        loop.run(asyncio.sleep(0))

    with pytest.raises(errors.FailedPrecondition, match="callback"):
        loop.run(inner())
    loop.close()


# --- the other nouns, and the twin ---------------------------------------------------------------


def test_jobs_are_listed_and_counted(client: Client) -> None:
    assert [job.id for job in client.jobs.list(states=["running"], page_size=1)] == ["train-2"]
    assert [job.id for job in client.jobs.list(page_size=1)] == ["train-1", "train-2", "batch-1", "batch-2"]
    assert [job.id for job in client.jobs.list(kinds=["batch_inference"])] == ["batch-1", "batch-2"]
    assert client.jobs.counts()[JobState.RUNNING] == 1
    assert client.jobs.counts()[JobState.QUEUED] == 0
    with pytest.raises(errors.InvalidRequest, match="'ended' is none"):
        list(client.jobs.list(states=["ended"]))


def test_models_and_their_versions_are_read(client: Client) -> None:
    assert [model.name for model in client.models.list()] == ["churn"]
    assert client.models.version("churn").version == 1
    assert client.models.version("churn", "champion").metrics == {"accuracy": 0.92}
    assert [version.version for version in client.models.versions("churn")] == [1]
    with pytest.raises(errors.NotFound):
        client.models.version("churn", 9)


def test_tenants_and_keys_are_managed(client: Client) -> None:
    made = client.tenants.create("team-b", quota={"max_job_memory_bytes": "1GiB"})
    assert made.key is not None
    assert made.key.secret == API_KEY
    updated = client.tenants.update("team-b", weight=3.0, quota={"max_active_jobs": 5})
    assert (updated.weight, updated.quota.max_active_jobs) == (3.0, 5)
    assert [tenant.slug for tenant in client.tenants.list(page_size=1)] == ["team-a", "team-b"]
    client.tenants.delete("team-b")
    with pytest.raises(errors.NotFound):
        client.tenants.get("team-b")
    issued = client.keys.create("bot", role="viewer", expires="90d")
    assert issued.key.role is Role.VIEWER
    assert issued.key.expires_at is not None
    assert issued.key.expires_at - datetime.now(UTC) > timedelta(days=89)
    with pytest.raises(errors.InvalidRequest, match="'king' is no role"):
        client.keys.create("bot", role="king")
    client.keys.revoke(fake_values.KEY_ID)


async def test_the_asynchronous_client_trains_watches_and_lists(
    aclient: AsyncClient, fake_platform: FakePlatform
) -> None:
    fake_platform.drops = [3]
    job = await aclient.train(None, "churn", target="left", name="churn")
    states = [event.state async for event in job.watch() if event.state]
    assert states == [JobState.QUEUED, JobState.RUNNING, JobState.SUCCEEDED]
    assert (await job.wait()).model_name == "churn"
    assert (await job.metrics()).scores["roc_auc"] == 0.95
    assert [found.id async for found in aclient.jobs.list(kinds=["training"])] == ["train-1", "train-2", job.id]


async def test_the_blocking_client_works_inside_a_running_loop(fake_platform: FakePlatform) -> None:
    with Client(fake_platform.address, API_KEY) as client:
        assert client.jobs.get("train-1").id == "train-1"
