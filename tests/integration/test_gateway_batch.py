"""Batch inference at the gateway, over real gRPC, a real database and a real disk, with a scheduler in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from mlops import errors, names
from mlops.jobs.card import FeatureSpec, LabelType, ModelCard, PredictMethod
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.inference import BatchManifest, BatchReport, BatchResult, ResultFile
from mlops.jobs.job import JobState
from mlops.jobs.model import Signature, SignatureColumn
from mlops.jobs.training import Task
from mlops.tenants.tenant import Role
from mlops.tracking.protocol import ModelFiles
from mlops.v1 import datasets_pb2, jobs_pb2, tenants_pb2
from mlops.wire.status import from_rpc_error
from tests.fixtures.gateway import TENANTS, Caller, RunningGateway, gateway

__all__ = ["gateway"]

CSV = b"a,b,extra\n" + b"".join(b"%d,%d,%d\n" % (i, i * i % 7, i) for i in range(40))
CARD = ModelCard(
    task=Task.REGRESSION,
    target="y",
    features=(
        FeatureSpec(name="a", kind=ColumnKind.NUMERIC),
        FeatureSpec(name="c", kind=ColumnKind.NUMERIC, required=False),
    ),
    label_type=LabelType.DOUBLE,
    methods=(PredictMethod.PREDICT,),
)
MODEL = "prices"


@pytest.fixture(scope="module")
def callers(gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Caller]:
    channel = gateway.channel()
    admin = Caller(channel, gateway.admin)
    found = {}
    for slug in TENANTS:
        admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug=slug))
        found[slug] = Caller(channel, gateway.key(slug, Role.OWNER))
        upload(found[slug])
    gateway.run(register(gateway, "acme", tmp_path_factory.mktemp("model") / "model.skops"))
    return found


@pytest.fixture
def acme(callers: dict[str, Caller]) -> Caller:
    return callers["acme"]


@pytest.fixture
def globex(callers: dict[str, Caller]) -> Caller:
    return callers["globex"]


def upload(caller: Caller) -> None:
    def parts() -> Iterator[datasets_pb2.UploadDatasetRequest]:
        yield datasets_pb2.UploadDatasetRequest(header=datasets_pb2.UploadHeader(name="houses"))
        yield datasets_pb2.UploadDatasetRequest(chunk=CSV)

    caller.datasets("UploadDataset", parts())


async def register(gateway: RunningGateway, tenant: str, file: Path) -> None:
    file.write_bytes(b"a model")
    tracking = gateway.tracking
    run = await tracking.start_run(
        tenant, job_id="train-1", experiment="m", run_name="m", tags={}, params={}, started_at=datetime.now(UTC)
    )
    model = await tracking.log_model(
        tenant,
        run,
        job_id="train-1",
        model=ModelFiles(
            file=file,
            signature=Signature(inputs=(SignatureColumn(name="a", type="double"),)),
            input_example=None,
            trusted_types=(),
            versions={},
            extras={names.CARD_FILE: CARD.model_dump_json().encode()},
        ),
        params={},
        tags={},
    )
    await tracking.register_version(
        tenant, model_name=MODEL, model=model, run_id=run.run_id, job_id="train-1", tags={names.TAG_JOB: "train-1"}
    )


def spec(**given: Any) -> jobs_pb2.BatchInferenceSpec:
    return jobs_pb2.BatchInferenceSpec(**{"model": MODEL, "dataset": "houses", **given})


def submit(caller: Caller, request_id: str, **given: Any) -> jobs_pb2.Job:
    request = jobs_pb2.SubmitBatchInferenceRequest(request_id=request_id, spec=spec(**given))
    job: jobs_pb2.Job = caller.jobs("SubmitBatchInference", request).job
    return job


def raised(call: Any) -> errors.MlopsError:
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def test_a_batch_is_resolved_once_and_the_same_request_is_the_same_job(gateway: RunningGateway, acme: Caller) -> None:
    job = submit(acme, "batch-1", carry=["extra"], version=1)
    assert (job.kind, job.batch_plan.model_version, job.batch_plan.rows) == (jobs_pb2.JOB_KIND_BATCH_INFERENCE, 1, 40)
    assert list(job.batch_plan.outputs) == [1]
    assert (job.attempt, job.HasField("plan")) == (1, False)
    started = gateway.scheduler.started
    assert submit(acme, "batch-1", carry=["extra"], version=1) == job
    assert gateway.scheduler.started == started
    assert isinstance(raised(lambda: submit(acme, "batch-1", carry=["b"], version=1)), errors.RequestIdReused)
    assert gateway.count("tenants", "acme", "models") == 2, "the model's file and its card are in storage"


def test_a_dry_run_starts_nothing_and_says_what_is_filled_and_ignored(gateway: RunningGateway, acme: Caller) -> None:
    started = gateway.scheduler.started
    request = jobs_pb2.ValidateBatchInferenceRequest(spec=spec(rows_per_shard=15))
    found = acme.jobs("ValidateBatchInference", request)
    assert found.shards == 3
    assert any("missing in every row: c" in text for text in found.warnings)
    assert any("ignored: b, extra" in text for text in found.warnings)
    assert gateway.scheduler.started == started


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({"carry": ["nothing"]}, "spec.carry[0]"),
        ({"outputs": [2]}, "spec.outputs[0]"),
        ({"target": "price"}, "spec.target"),
        ({"rows_per_shard": 0}, "spec.rows_per_shard"),
        ({"uri": "s3://elsewhere/x.parquet", "dataset": None}, "spec.uri"),
        ({"uri": "/etc/passwd", "dataset": None}, "spec.uri"),
        ({"alias": "x", "version": 1}, "spec.alias"),
        ({"model": ""}, "spec.model"),
        ({"resources": jobs_pb2.Resources(cpus=9)}, "spec.resources.cpus"),
    ],
)
def test_a_bad_batch_is_refused_with_the_fields_path_and_starts_nothing(
    gateway: RunningGateway, acme: Caller, given: dict[str, Any], path: str
) -> None:
    started = gateway.scheduler.started
    error = raised(lambda: submit(acme, "batch-bad", **given))
    assert isinstance(error, errors.InvalidRequest)
    assert path in error.violations
    assert gateway.scheduler.started == started


@pytest.mark.parametrize("given", [{"model": "castles"}, {"version": 2}, {"alias": "champion"}, {"dataset": "huts"}])
def test_what_is_not_there_is_not_found(acme: Caller, given: dict[str, Any]) -> None:
    assert isinstance(raised(lambda: submit(acme, "batch-none", **given)), errors.NotFound)


def test_another_tenants_model_job_and_result_are_unknown(
    gateway: RunningGateway, acme: Caller, globex: Caller
) -> None:
    job = submit(acme, "batch-wall")
    commit(gateway, "acme", job.id)
    assert str(raised(lambda: submit(globex, "batch-wall"))) == f"model {MODEL!r} does not exist"
    for call in (
        lambda: globex.jobs("RetryJob", jobs_pb2.RetryJobRequest(job_id=job.id)),
        lambda: list(globex.jobs("DownloadResult", jobs_pb2.DownloadResultRequest(job_id=job.id))),
    ):
        assert str(raised(call)) == f"job {job.id!r} does not exist"


def test_a_viewer_may_look_but_not_start(gateway: RunningGateway, acme: Caller) -> None:
    viewer = Caller(gateway.channel(), gateway.key("acme", Role.VIEWER))
    assert viewer.jobs("ValidateBatchInference", jobs_pb2.ValidateBatchInferenceRequest(spec=spec())).plan.rows == 40
    assert isinstance(raised(lambda: submit(viewer, "batch-viewer")), errors.PermissionDenied)
    retry = jobs_pb2.RetryJobRequest(job_id="batch-1")
    assert isinstance(raised(lambda: viewer.jobs("RetryJob", retry)), errors.PermissionDenied)


def test_a_job_that_did_not_succeed_is_retried_and_one_that_runs_is_left_alone(
    gateway: RunningGateway, acme: Caller
) -> None:
    job = submit(acme, "batch-again")
    retry = jobs_pb2.RetryJobRequest(job_id=job.id)
    assert acme.jobs("RetryJob", retry).job.attempt == 1
    acme.jobs("CancelJob", jobs_pb2.CancelJobRequest(job_id=job.id))
    again = acme.jobs("RetryJob", retry).job
    assert (again.attempt, again.state) == (2, jobs_pb2.JOB_STATE_QUEUED)
    found = gateway.scheduler.jobs["acme", job.id]
    gateway.scheduler.end(found, JobState.SUCCEEDED)
    assert isinstance(raised(lambda: acme.jobs("RetryJob", retry)), errors.FailedPrecondition)


def test_a_result_is_streamed_whole_or_not_at_all(gateway: RunningGateway, acme: Caller) -> None:
    job = submit(acme, "batch-result")
    request = jobs_pb2.DownloadResultRequest(job_id=job.id)
    error = raised(lambda: list(acme.jobs("DownloadResult", request)))
    assert isinstance(error, errors.FailedPrecondition)
    assert "queued" in error.message
    commit(gateway, "acme", job.id)
    assert files(acme.jobs("DownloadResult", request)) == {
        "part-00000.parquet": b"first" * 1000,
        "part-00001.parquet": b"",
    }
    behind = jobs_pb2.DownloadResultRequest(job_id=job.id, skip_files=1)
    assert files(acme.jobs("DownloadResult", behind)) == {"part-00001.parquet": b""}
    rejects = jobs_pb2.DownloadResultRequest(job_id=job.id, part=jobs_pb2.RESULT_PART_REJECTS)
    assert files(acme.jobs("DownloadResult", rejects)) == {}
    beyond = jobs_pb2.DownloadResultRequest(job_id=job.id, skip_files=3)
    found = gateway.scheduler.jobs["acme", job.id]
    assert isinstance(raised(lambda: list(acme.jobs("DownloadResult", beyond))), errors.InvalidRequest)
    # Cancelled while it committed: the manifest is there, and the result is not.
    found.job = found.job.model_copy(update={"state": JobState.CANCELLED})
    assert isinstance(raised(lambda: list(acme.jobs("DownloadResult", request))), errors.FailedPrecondition)


def commit(gateway: RunningGateway, tenant: str, job_id: str) -> None:
    """What the last step of a batch leaves."""
    folder = names.result_prefix(tenant, job_id)
    described = (
        ResultFile(name="part-00000.parquet", rows=1, size_bytes=5000),
        ResultFile(name="part-00001.parquet", rows=0, size_bytes=0),
    )
    manifest = BatchManifest(
        job_id=job_id,
        model_name=MODEL,
        model_version=1,
        dataset_id=None,
        source_uri=None,
        committed_at=datetime.now(UTC),
        report=BatchReport(rows=1, rejected_rows=0, files=described),
    )
    found = gateway.scheduler.jobs[tenant, job_id]
    result = BatchResult(report=manifest.report, model_name=MODEL, model_version=1, uri="")
    found.job = found.job.model_copy(update={"state": JobState.SUCCEEDED, "batch_result": result})
    for name, content in (
        ("part-00000.parquet", b"first" * 1000),
        ("part-00001.parquet", b""),
        (names.MANIFEST_FILE, manifest.model_dump_json().encode()),
    ):
        gateway.run(gateway.objects.write_bytes(f"{folder}/{name}", content))
    assert json.loads(gateway.run(gateway.objects.read_bytes(f"{folder}/{names.MANIFEST_FILE}")))["job_id"] == job_id


def files(pieces: Any) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    name = ""
    for piece in pieces:
        if piece.WhichOneof("piece") == "file":
            name = piece.file.name
            found[name] = b""
        else:
            found[name] += piece.chunk
    return found
