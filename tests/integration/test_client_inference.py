"""Predictions and batch inferences by the SDK, against a fake platform, over real gRPC."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops import AsyncClient, Client, errors
from mlops.client import AsyncBatchHandle, BatchHandle, JobHandle
from mlops.client.retry import RetryPolicy
from mlops.jobs.card import Engine, PredictMethod
from mlops.jobs.dataset import ReadOptions
from mlops.jobs.inference import BatchInferenceSpec, OnBadRow, OutputFormat
from mlops.jobs.job import JobState
from mlops.jobs.serving import TrafficRule
from mlops.v1 import models_pb2
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


# --- predictions -------------------------------------------------------------------------------


def test_a_data_frame_is_answered_by_a_data_frame_with_its_index(client: Client, fake_platform: FakePlatform) -> None:
    rows = pd.DataFrame({"age": [44, 30], "plan": pd.Categorical(["a", None])}, index=["x", "y"])
    found = client.predict("churn", rows, outputs=["predict", "predict_proba"])
    assert list(found.index) == ["x", "y"]
    assert found.to_dict("list") == {"prediction": ["yes", "no"], "probability[yes]": [0.44, 0.3]}
    assert found.attrs == {"model": "churn", "version": 1, "engine": "onnx", "warnings": []}
    assert fake_platform.rows == [{"age": [44, 30], "plan": ["a", None]}]


def test_a_mapping_is_answered_by_a_mapping_and_everything_else_by_a_data_frame(client: Client) -> None:
    assert client.predict("churn", {"age": [44]}) == {"prediction": ["yes"]}
    for rows in ([{"age": 44}], pa.table({"age": [44]})):
        found = client.predict("churn", rows)
        assert isinstance(found, pd.DataFrame)
        assert list(found["prediction"]) == ["yes"]


def test_a_prediction_says_which_version_answered_and_with_what(client: Client) -> None:
    found = client.models.predict("churn", {"age": [44], "extra": ["x"]}, version=3)
    assert (found.model, found.version, found.engine) == ("churn", 3, Engine.ONNX)
    assert found.warnings == ("column 'extra' is ignored",)
    assert found.rows() == [{"prediction": "yes"}]


@pytest.mark.parametrize(
    ("model", "options", "which"),
    [
        ("churn", {}, None),
        ("churn/3", {}, ("version", 3)),
        ("churn@blue", {}, ("alias", "blue")),
        ("churn", {"alias": "blue"}, ("alias", "blue")),
        (fake_values.RESULT, {}, ("version", 1)),
        (fake_values.VERSION, {}, ("version", 1)),
    ],
    ids=str,
)
def test_the_version_that_is_meant_is_asked_for(
    model: Any, options: dict[str, Any], which: tuple[str, Any] | None, client: Client, fake_platform: FakePlatform
) -> None:
    client.predict(model, {"age": [44]}, request_key="customer-1", **options)
    request = fake_platform.predicted[0]
    assert request.model == "churn"
    assert request.request_key == "customer-1"
    assert list(request.outputs) == [models_pb2.PREDICT_METHOD_PREDICT]
    chosen = request.WhichOneof("which")
    assert (None if chosen is None else (chosen, getattr(request, chosen))) == which


def test_what_cannot_be_predicted_is_refused_before_anything_is_sent(
    client: Client, fake_platform: FakePlatform
) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"column 'age' holds numbers .* and texts"):
        client.predict("churn", pd.DataFrame({"age": [44, "old"]}))
    with pytest.raises(errors.InvalidRequest, match="'proba' is none of predict"):
        client.predict("churn", {"age": [44]}, outputs="proba")
    with pytest.raises(errors.InvalidRequest, match="outputs: name at least one"):
        client.predict("churn", {"age": [44]}, outputs=[])
    with pytest.raises(errors.InvalidRequest, match="more than once: 3 and blue"):
        client.predict("churn/3", {"age": [44]}, alias="blue")
    with pytest.raises(errors.InvalidRequest, match=r"rows: take 7\d MiB, more than the 64 MiB"):
        client.predict("churn", {"age": ["x" * 1000] * 75_000})
    assert fake_platform.calls["Predict"] == 0


def test_a_refusal_of_the_platform_names_the_column(client: Client) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        client.predict("churn", {"years": [44]})
    assert set(caught.value.violations) == {"age"}


def test_a_prediction_that_was_turned_away_is_tried_again_when_the_platform_says_so(
    client: Client, fake_platform: FakePlatform
) -> None:
    shed = errors.QuotaExceeded("too many", limit="max_concurrent_predictions", retry_after_seconds=0.2)
    fake_platform.failures["Predict"] = [shed, errors.Unavailable("restarting")]
    started = time.monotonic()
    assert client.predict("churn", {"age": [44]}) == {"prediction": ["yes"]}
    assert fake_platform.calls["Predict"] == 3
    assert time.monotonic() - started >= 0.2, "the platform is not asked again before the time that it named"


def test_a_limit_that_waiting_does_not_lift_is_reported_at_once(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.failures["Predict"] = [errors.QuotaExceeded("too many", limit="max_concurrent_predictions")]
    with pytest.raises(errors.QuotaExceeded) as caught:
        client.predict("churn", {"age": [44]})
    assert caught.value.limit == "max_concurrent_predictions"
    assert fake_platform.calls["Predict"] == 1


def test_a_wait_beyond_the_deadline_is_not_begun(fake_platform: FakePlatform) -> None:
    fake_platform.failures["Predict"] = [errors.QuotaExceeded("too many", retry_after_seconds=30.0)]
    started = time.monotonic()
    with Client(fake_platform.address, API_KEY, retry=QUICK, timeout=2) as client, pytest.raises(errors.QuotaExceeded):
        client.predict("churn", {"age": [44]})
    assert time.monotonic() - started < 2


def test_other_calls_are_not_repeated_where_a_limit_is_reached(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.failures["SubmitBatchInference"] = [
        errors.QuotaExceeded("full", limit="max_active_jobs", retry_after_seconds=0.01)
    ]
    with pytest.raises(errors.QuotaExceeded):
        client.predict_batch("churn", "churn")
    assert fake_platform.calls["SubmitBatchInference"] == 1


# --- aliases and traffic -----------------------------------------------------------------------


def test_an_alias_is_set_and_deleted(client: Client, fake_platform: FakePlatform) -> None:
    assert client.models.set_alias("churn", "blue", 1).aliases == {"champion": 1, "blue": 1}
    fake_platform.failures["after DeleteModelAlias"] = [errors.Unavailable("the answer is lost")]
    client.models.delete_alias("churn", "blue")
    assert fake_platform.calls["DeleteModelAlias"] == 2
    with pytest.raises(errors.NotFound):
        client.models.delete_alias("churn", "blue")
    with pytest.raises(errors.NotFound):
        client.models.set_alias("churn", "blue", 9)


def test_traffic_is_shared_out_by_a_rule_or_by_its_fields(client: Client, fake_platform: FakePlatform) -> None:
    rule = TrafficRule(challenger="2", challenger_share=0.1)
    assert client.models.set_traffic("churn", rule) == rule
    assert client.models.traffic("churn").rule == rule
    assert client.models.traffic("churn").shadow.compared_rows == 200
    assert client.models.set_traffic("churn", challenger="blue", shadow_share=1.0) == TrafficRule(
        challenger="blue", shadow_share=1.0
    )
    assert client.models.set_traffic("churn") == TrafficRule()
    assert fake_platform.calls["SetTraffic"] == 3
    with pytest.raises(errors.InvalidRequest, match="challenger_share"):
        client.models.set_traffic("churn", challenger="2", challenger_share=2.0)
    with pytest.raises(errors.InvalidRequest, match="given twice"):
        client.models.set_traffic("churn", rule, challenger="2")
    assert fake_platform.calls["SetTraffic"] == 3


def test_the_figures_of_a_model_are_read(client: Client) -> None:
    assert client.models.serving_figures("churn") == fake_values.FIGURES


# --- batch inferences --------------------------------------------------------------------------


def parquet(**columns: list[Any]) -> bytes:
    held = io.BytesIO()
    pq.write_table(pa.table(columns), held)
    return held.getvalue()


def test_a_batch_inference_runs_to_its_predictions(client: Client, fake_platform: FakePlatform) -> None:
    fake_platform.files = {
        "part-00000.parquet": parquet(row=[0, 1], prediction=["yes", "no"]),
        "part-00001.parquet": parquet(row=[2], prediction=["no"]),
    }
    job = client.predict_batch(
        "churn@champion",
        fake_values.dataset(),
        outputs=["predict", "predict_proba"],
        carry="customer",
        output_format="parquet",
        rows_per_shard=50,
        on_bad_row="reject",
        max_rejects=3,
        target="left",
        name="nightly",
        request_id="nightly-1",
        cpus=2,
        memory="1GiB",
        time_limit="10m",
        max_attempts=5,
        labels={"team": "a"},
    )
    assert isinstance(job, BatchHandle)
    assert job.id == "nightly-1"
    assert job.status is JobState.QUEUED
    frame = job.result(timeout=20)
    assert frame.to_dict("list") == {"row": [0, 1, 2], "prediction": ["yes", "no", "no"]}
    assert job.wait().uri.startswith("s3://")
    assert fake_platform.batches == [
        BatchInferenceSpec.model_validate(
            {
                "model": "churn",
                "alias": "champion",
                "dataset": fake_values.CHURN_ID,
                "name": "nightly",
                "outputs": (PredictMethod.PREDICT, PredictMethod.PREDICT_PROBA),
                "carry": ("customer",),
                "output_format": OutputFormat.PARQUET,
                "rows_per_shard": 50,
                "on_bad_row": OnBadRow.REJECT,
                "max_rejects": 3,
                "target": "left",
                "resources": {"cpus": 2, "memory_bytes": 2**30},
                "time_limit": timedelta(minutes=10),
                "max_attempts": 5,
                "labels": {"team": "a"},
            }
        )
    ]


def test_a_uri_is_read_where_it_is_and_a_name_is_a_datasets(client: Client, fake_platform: FakePlatform) -> None:
    options = ReadOptions(delimiter=";")
    client.predict_batch("churn", "s3://lake/x.csv", read_options=options)
    client.predict_batch("churn", "churn")
    assert (fake_platform.batches[0].uri, fake_platform.batches[0].dataset) == ("s3://lake/x.csv", None)
    assert fake_platform.batches[0].read_options == options
    assert (fake_platform.batches[1].uri, fake_platform.batches[1].dataset) == (None, "churn")
    assert fake_platform.calls["UploadDataset"] == 0


def test_a_data_frame_and_a_file_are_uploaded_first(
    client: Client, fake_platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.predict_batch("churn", pd.DataFrame({"age": [44]}))
    path = tmp_path / "people.csv"
    path.write_text("age\n44\n")
    client.predict_batch("churn", path, read_options=ReadOptions(delimiter=","))
    client.predict_batch("churn", str(path))
    monkeypatch.chdir(tmp_path)
    client.predict_batch("churn", "people.csv")
    assert [header.name for header in fake_platform.headers] == ["churn-input", "people", "people", "people"]
    assert fake_platform.headers[1].read_options.delimiter == ","
    sent = set(fake_platform.datasets) - {fake_values.CHURN_ID}
    assert {spec.dataset for spec in fake_platform.batches} == sent
    assert all(spec.read_options == ReadOptions() for spec in fake_platform.batches)
    Path("churn").write_text("not me")
    client.predict_batch("churn", "churn")
    assert fake_platform.batches[-1].dataset == "churn", "a plain word is a dataset's name, whatever files there are"


def test_a_bad_batch_argument_is_named_before_anything_is_sent(client: Client, fake_platform: FakePlatform) -> None:
    frame = pd.DataFrame({"age": [44]})
    with pytest.raises(errors.InvalidRequest) as caught:
        client.predict_batch("churn", frame, cpus=0, output_format="xml", rows_per_shard=0, on_bad_row="skip")
    assert set(caught.value.violations) == {"cpus", "output_format", "rows_per_shard", "on_bad_row"}
    with pytest.raises(errors.InvalidRequest, match="memory: 'lots'"):
        client.predict_batch("churn", frame, memory="lots")
    with pytest.raises(errors.InvalidRequest, match="names no model"):
        client.predict_batch("", frame)
    with pytest.raises(errors.InvalidRequest, match="read_options: belong to a file or a URI"):
        client.predict_batch("churn", "churn", read_options=ReadOptions(delimiter=";"))
    with pytest.raises(errors.InvalidRequest, match="neither a path nor a table"):
        client.predict_batch("churn", 3)
    with pytest.raises(errors.InvalidRequest, match="does not exist"):
        client.predict_batch("churn", Path("/no/such.csv"))
    assert not fake_platform.calls


def test_a_dry_run_starts_nothing(client: Client, fake_platform: FakePlatform) -> None:
    validated = client.validate_batch("churn", "churn", outputs="predict_proba")
    assert validated.shards == 2
    assert validated.plan.outputs == (PredictMethod.PREDICT_PROBA,)
    assert client.validate_batch("churn", "s3://lake/x.parquet").shards is None
    assert not fake_platform.batches


def test_a_job_is_found_again_as_what_it_is(client: Client, fake_platform: FakePlatform) -> None:
    batch, training = client.job("batch-1"), client.job("train-1")
    assert isinstance(batch, BatchHandle)
    assert isinstance(training, JobHandle)
    assert batch.wait().report.scores == {"accuracy": 0.875}
    assert training.wait() == fake_platform.jobs["train-1"].result


def test_the_metrics_of_a_batch_are_its_scores_and_its_drift(client: Client) -> None:
    metrics = client.job("batch-1").metrics()
    assert metrics.scores == {"accuracy": 0.875}
    assert [feature.feature for feature in metrics.drift] == ["plan", "steady", "age", "spend"]
    assert metrics.steps["predict"]["rows"] == 50.0


def test_a_cancelled_job_is_run_again_under_its_id(client: Client, fake_platform: FakePlatform) -> None:
    job = client.job("batch-2")
    with pytest.raises(errors.JobCancelled):
        job.wait()
    fake_platform.failures["RetryJob"] = [errors.SchedulerUnavailable("away")]
    assert job.retry().state is JobState.RUNNING
    assert job.wait(20).model_name == "churn"
    assert job.job.attempt == 2
    with pytest.raises(errors.FailedPrecondition, match="nothing is missing"):
        job.retry()


def test_a_frame_without_pandas_is_refused_before_the_wait(
    client: Client, fake_platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.job("batch-1")
    assert isinstance(job, BatchHandle)
    monkeypatch.setattr("mlops.client.resultframe.find_spec", lambda name: None)
    with pytest.raises(errors.FailedPrecondition, match="pip install pandas pyarrow"):
        job.result()
    assert fake_platform.calls["DownloadResult"] == 0


# --- downloads ---------------------------------------------------------------------------------


def held_in(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_a_result_is_downloaded_file_by_file(client: Client, fake_platform: FakePlatform, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    to = tmp_path / "new" / "results"
    paths = client.jobs.download("batch-1", to, progress=lambda received, total: seen.append((received, total)))
    assert paths == (to / "part-00000.parquet", to / "part-00001.parquet")
    assert held_in(to) == fake_platform.files
    assert seen[0] == (0, 1200)
    assert seen[-1] == (1200, 1200)
    assert [received for received, _ in seen] == sorted(received for received, _ in seen)
    assert client.jobs.download("batch-1", to, "rejects") == (to / "rejects-00000.parquet",)


@pytest.mark.parametrize("cuts", [[0], [1], [3], [5], [6], [8], [2, 0, 7, 3]])
def test_a_download_goes_on_behind_the_last_whole_file(
    cuts: list[int], client: Client, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    fake_platform.cuts = list(cuts)
    paths = client.jobs.download("batch-1", tmp_path)
    assert [path.name for path in paths] == list(fake_platform.files)
    assert held_in(tmp_path) == fake_platform.files
    # The first file is a header and four pieces.
    had, expected = 0, [0]
    for cut in cuts:
        had += 1 if had == 0 and cut >= 5 else 0
        expected.append(had)
    assert fake_platform.skips == expected


def test_a_download_survives_a_restart_of_the_gateway(
    client: Client, fake_platform: FakePlatform, fake_server: FakeServer, tmp_path: Path
) -> None:
    fake_platform.finish_batch("batch-1", {f"part-{number}.csv": bytes(1_000_000) for number in range(30)})
    restarted = False

    def restart_once(received: int, total: int) -> None:
        nonlocal restarted
        if received > total / 30 and not restarted:
            restarted = True
            fake_server.restart()

    client.jobs.download("batch-1", tmp_path, progress=restart_once)
    assert restarted
    assert fake_platform.calls["DownloadResult"] >= 2
    assert held_in(tmp_path) == fake_platform.files


def test_a_download_that_is_never_let_through_ends(fake_platform: FakePlatform, tmp_path: Path) -> None:
    fake_platform.cuts = [1] * 500
    impatient = RetryPolicy(
        first_delay=timedelta(milliseconds=10),
        longest_delay=timedelta(milliseconds=50),
        patience=timedelta(milliseconds=300),
    )
    with Client(fake_platform.address, API_KEY, retry=impatient) as client, pytest.raises(errors.Unavailable):
        client.jobs.download("batch-1", tmp_path)
    assert held_in(tmp_path) == {}


def test_a_file_that_is_there_is_not_overwritten_unasked(
    client: Client, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    mine = tmp_path / "part-00001.parquet"
    mine.write_text("mine")
    with pytest.raises(errors.AlreadyExists, match=r"part-00001\.parquet' exists"):
        client.jobs.download("batch-1", tmp_path)
    assert mine.read_text() == "mine"
    client.jobs.download("batch-1", tmp_path, overwrite=True)
    assert held_in(tmp_path) == fake_platform.files


@pytest.mark.parametrize(
    "name",
    ["../out.parquet", "/tmp/out.parquet", "a/b", "..", ".", "", ".bashrc", "a\\b", "C:x", "a\nb", "part/../../x"],
)
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_written(
    name: str, client: Client, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    fake_platform.sent = [(name, 3, b"abc")]
    to = tmp_path / "inner"
    with pytest.raises(errors.ChecksumMismatch, match="no name of a file"):
        client.jobs.download("batch-1", to)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (
            [("part-00000.parquet", 700, b"a" * 699), ("part-00001.parquet", 500, b"b" * 500)],
            "699 bytes instead of 700",
        ),
        ([("part-00000.parquet", 700, b"a" * 701)], "more bytes|701 bytes instead of 700|800 bytes instead of 700"),
        ([("part-00000.parquet", 700, b"a" * 650)], "650 bytes instead of 700"),
        ([("part-00000.parquet", 700, b"a" * 700)], "1 of 2 files, part-00001.parquet not among them"),
        ([("part-00000.parquet", 700, b"a" * 700)] * 2, "twice"),
    ],
)
def test_other_bytes_than_were_announced_are_no_result(
    sent: list[tuple[str, int, bytes]], problem: str, client: Client, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    fake_platform.sent = sent
    with pytest.raises(errors.ChecksumMismatch, match=problem):
        client.jobs.download("batch-1", tmp_path)
    assert all(len(data) == 700 for data in held_in(tmp_path).values()), "no half file has a name"


def test_an_empty_file_is_a_file(client: Client, fake_platform: FakePlatform, tmp_path: Path) -> None:
    fake_platform.finish_batch("batch-1", {"part-0.csv": b"", "part-1.csv": b"x", "part-2.csv": b""})
    client.jobs.download("batch-1", tmp_path)
    assert held_in(tmp_path) == fake_platform.files


def test_what_has_no_files_is_refused_before_a_directory_is_made(client: Client, tmp_path: Path) -> None:
    to = tmp_path / "results"
    with pytest.raises(errors.FailedPrecondition, match="'batch-2' is cancelled"):
        client.jobs.download("batch-2", to)
    with pytest.raises(errors.FailedPrecondition, match="'train-1' is a training"):
        client.jobs.download("train-1", to)
    with pytest.raises(errors.InvalidRequest, match="'report' is none of predictions, rejects"):
        client.jobs.download("batch-1", to, "report")
    assert not to.exists()
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(errors.InvalidRequest, match="can be no directory"):
        client.jobs.download("batch-1", blocked / "x")


def test_a_callback_that_breaks_ends_the_download_and_leaves_no_half_file(client: Client, tmp_path: Path) -> None:
    def breaks(received: int, total: int) -> None:
        if received:
            raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        client.jobs.download("batch-1", tmp_path, progress=breaks)
    assert held_in(tmp_path) == {}


# --- the twin ------------------------------------------------------------------------------------


async def test_the_asynchronous_client_predicts_and_downloads(
    aclient: AsyncClient, fake_platform: FakePlatform, tmp_path: Path
) -> None:
    moments = {"age": [44], "since": [datetime(2026, 1, 1, tzinfo=UTC)]}
    assert await aclient.predict("churn", moments) == {"prediction": ["yes"]}
    assert fake_platform.rows == [moments]
    fake_platform.files = {"part-00000.parquet": parquet(row=[0], prediction=["yes"])}
    job = await aclient.predict_batch("churn", "churn")
    frame = await job.result()
    assert list(frame["prediction"]) == ["yes"]
    assert [path.name for path in await job.download(tmp_path)] == ["part-00000.parquet"]
    assert isinstance(await aclient.job("batch-1"), AsyncBatchHandle)
