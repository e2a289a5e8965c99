"""The gateway over real gRPC, a real database and a real disk, with a scheduler in memory."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, ResourceInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops import errors, names
from mlops.gateway.access import LEAST_ROLE
from mlops.jobs.job import JobState
from mlops.tenants.tenant import Role
from mlops.v1 import datasets_pb2, estimator_pb2, jobs_pb2, models_pb2, tenants_pb2
from mlops.wire.status import DETAILS_TRAILER, from_rpc_error, retry_after_seconds
from tests.fixtures.gateway import DEADLINE, TENANTS, Caller, RunningGateway, gateway, running_gateway

__all__ = ["gateway"]

SERVICES = {
    name: file.DESCRIPTOR.services_by_name[name]
    for name, file in {
        "Jobs": jobs_pb2,
        "Datasets": datasets_pb2,
        "Models": models_pb2,
        "Tenants": tenants_pb2,
    }.items()
}
METHODS = [(service, method) for service, found in SERVICES.items() for method in found.methods_by_name]
CSV = b"a,b,label\n" + b"".join(b"%d,%d,%s\n" % (i, i * i % 7, b"xy"[i % 2 : i % 2 + 1]) for i in range(40))


def raised(call: Callable[[], Any]) -> errors.MlopsError:
    """The error that a call ends with, as the SDK would raise it."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return from_rpc_error(caught.value)


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def channel(gateway: RunningGateway) -> grpc.Channel:
    return gateway.channel()


@pytest.fixture(scope="module")
def admin(gateway: RunningGateway, channel: grpc.Channel) -> Caller:
    admin = Caller(channel, gateway.admin)
    for slug in TENANTS:
        admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug=slug))
    return admin


@pytest.fixture(scope="module")
def as_role(gateway: RunningGateway, channel: grpc.Channel, admin: Caller) -> Callable[[str, Role], Caller]:
    return lambda tenant, role: Caller(channel, gateway.key(tenant, role))


@pytest.fixture
def acme(as_role: Callable[[str, Role], Caller]) -> Caller:
    return as_role("acme", Role.OWNER)


@pytest.fixture
def globex(as_role: Callable[[str, Role], Caller]) -> Caller:
    return as_role("globex", Role.OWNER)


def upload(caller: Caller, data: bytes, **header: Any) -> datasets_pb2.Dataset:
    def parts() -> Iterator[datasets_pb2.UploadDatasetRequest]:
        yield datasets_pb2.UploadDatasetRequest(header=datasets_pb2.UploadHeader(**header))
        for start in range(0, len(data), 16):
            yield datasets_pb2.UploadDatasetRequest(chunk=data[start : start + 16])

    dataset: datasets_pb2.Dataset = caller.datasets("UploadDataset", parts()).dataset
    return dataset


@pytest.fixture
def dataset(acme: Caller) -> datasets_pb2.Dataset:
    return upload(acme, CSV, name="flowers")


def submit(caller: Caller, request_id: str, **spec: Any) -> jobs_pb2.Job:
    asked = jobs_pb2.TrainingSpec(**{"dataset": "flowers", "target": "label", **spec})
    request = jobs_pb2.SubmitTrainingRequest(request_id=request_id, spec=asked)
    job: jobs_pb2.Job = caller.jobs("SubmitTraining", request).job
    return job


# --- who is let in -----------------------------------------------------------------------------


def attempt(caller: Caller, service: str, method: str) -> errors.MlopsError | None:
    """Calls a method with an empty request; what went wrong, if anything did."""
    descriptor = SERVICES[service].methods_by_name[method]
    request: Any = GetMessageClass(descriptor.input_type)()
    try:
        answer = caller.call(service, method, iter([request]) if descriptor.client_streaming else request)
        if descriptor.server_streaming:
            next(answer)
    except grpc.RpcError as error:
        return from_rpc_error(error)
    return None


@pytest.mark.parametrize(("service", "method"), METHODS)
@pytest.mark.parametrize("key", [None, "nonsense", names.new_api_key()[2]], ids=["none", "malformed", "unknown"])
def test_every_rpc_takes_a_key(channel: grpc.Channel, service: str, method: str, key: str | None) -> None:
    assert type(attempt(Caller(channel, key), service, method)) is errors.Unauthenticated


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_every_rpc_refuses_a_smaller_role_and_takes_its_own(
    as_role: Callable[[str, Role], Caller], admin: Caller, service: str, method: str
) -> None:
    roles = [Role.VIEWER, Role.SUBMITTER, Role.OWNER]
    least = LEAST_ROLE[f"/mlops.v1.{service}/{method}"]
    for role in roles:
        outcome = attempt(as_role("acme", role), service, method)
        enough = least is not Role.ADMINISTRATOR and roles.index(role) >= roles.index(least)
        assert (type(outcome) is not errors.PermissionDenied) == enough, role
    outcome = attempt(admin, service, method)
    assert (type(outcome) is errors.PermissionDenied) == (service != "Tenants")
    if service != "Tenants":
        assert outcome is not None
        assert "this key belongs to no tenant" in outcome.message


def test_a_revoked_key_is_refused_within_two_seconds(acme: Caller, channel: grpc.Channel) -> None:
    request = tenants_pb2.CreateApiKeyRequest(role=tenants_pb2.ROLE_VIEWER, name="guest")
    issued = acme.tenants("CreateApiKey", request)
    guest = Caller(channel, issued.secret)
    assert guest.jobs("ListJobs", jobs_pb2.ListJobsRequest()) is not None
    acme.tenants("RevokeApiKey", tenants_pb2.RevokeApiKeyRequest(id=issued.key.id))
    revoked = time.monotonic()
    until(lambda: isinstance(attempt(guest, "Jobs", "ListJobs"), errors.Unauthenticated))
    assert time.monotonic() - revoked < 2.0


def test_a_watch_ends_when_its_key_is_revoked(
    acme: Caller, channel: grpc.Channel, dataset: datasets_pb2.Dataset
) -> None:
    submit(acme, "watched-by-guest")
    request = tenants_pb2.CreateApiKeyRequest(role=tenants_pb2.ROLE_VIEWER, name="guest")
    issued = acme.tenants("CreateApiKey", request)
    events = Caller(channel, issued.secret).jobs("WatchJob", jobs_pb2.WatchJobRequest(job_id="watched-by-guest"))
    assert [next(events).cursor for _ in range(3)] == ["1", "2", "3"]
    acme.tenants("RevokeApiKey", tenants_pb2.RevokeApiKeyRequest(id=issued.key.id))
    assert type(raised(lambda: next(events))) is errors.Unauthenticated


# --- tenants and keys --------------------------------------------------------------------------


def test_a_tenant_is_created_once_with_its_first_key(gateway: RunningGateway, admin: Caller) -> None:
    request = tenants_pb2.CreateTenantRequest(
        slug="initech", quota=tenants_pb2.Quota(max_active_jobs=5), weight=2.0, labels={"plan": "gold"}
    )
    first = admin.tenants("CreateTenant", request)
    assert first.secret.startswith("mlops_")
    assert first.key.role == tenants_pb2.ROLE_OWNER
    assert first.tenant.state == tenants_pb2.TENANT_STATE_ACTIVE
    assert first.tenant.quota.max_active_jobs == 5
    assert first.tenant.quota.max_job_cpus == 64
    again = admin.tenants("CreateTenant", request)
    assert again.tenant == first.tenant
    assert not again.secret
    assert not again.HasField("key")
    other = tenants_pb2.CreateTenantRequest(slug="initech", weight=3.0)
    assert type(raised(lambda: admin.tenants("CreateTenant", other))) is errors.AlreadyExists


def test_a_change_leaves_what_it_does_not_name(admin: Caller) -> None:
    quota = tenants_pb2.Quota(max_active_jobs=7, max_job_cpus=3)
    admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug="hooli", display_name="Hooli", quota=quota))
    change = tenants_pb2.UpdateTenantRequest(slug="hooli", quota=tenants_pb2.Quota(max_active_jobs=0))
    changed = admin.tenants("UpdateTenant", change).tenant
    assert (changed.quota.max_active_jobs, changed.quota.max_job_cpus) == (0, 3)
    assert (changed.display_name, changed.weight) == ("Hooli", 1.0)
    for slug in ("a", "acme\n", "Acme", "default", "a" * 64):
        wrong_slug = tenants_pb2.CreateTenantRequest(slug=slug)
        refused = raised(lambda r=wrong_slug: admin.tenants("CreateTenant", r))  # type: ignore[misc]
        assert isinstance(refused, errors.InvalidRequest), slug
        assert set(refused.violations) == {"slug"}
    wrong = tenants_pb2.UpdateTenantRequest(slug="hooli", weight=-1.0, quota=tenants_pb2.Quota(max_job_cpus=0))
    error = raised(lambda: admin.tenants("UpdateTenant", wrong))
    assert isinstance(error, errors.InvalidRequest)
    assert set(error.violations) == {"weight", "quota.max_job_cpus"}


def test_a_tenant_with_active_jobs_is_deleted_only_by_force(
    gateway: RunningGateway, admin: Caller, channel: grpc.Channel
) -> None:
    created = admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug="doomed"))
    doomed = Caller(channel, created.secret)
    upload(doomed, CSV, name="flowers")
    submit(doomed, "running")
    assert gateway.count("tenants", "doomed") > 0
    delete = tenants_pb2.DeleteTenantRequest(slug="doomed")
    assert type(raised(lambda: admin.tenants("DeleteTenant", delete))) is errors.FailedPrecondition
    admin.tenants("DeleteTenant", tenants_pb2.DeleteTenantRequest(slug="doomed", force=True))
    assert gateway.count("tenants", "doomed") == 0
    assert type(raised(lambda: admin.tenants("DeleteTenant", delete))) is errors.NotFound
    until(lambda: isinstance(attempt(doomed, "Jobs", "ListJobs"), errors.Unauthenticated))


def test_owners_see_and_make_keys_of_their_own_tenant_only(acme: Caller, globex: Caller, admin: Caller) -> None:
    mine = acme.tenants("ListApiKeys", tenants_pb2.ListApiKeysRequest(page_size=1000)).keys
    assert {key.tenant for key in mine} == {"acme"}
    foreign = tenants_pb2.ListApiKeysRequest(tenant="globex")
    missing = tenants_pb2.ListApiKeysRequest(tenant="nowhere")
    errors_seen = [raised(lambda r=r: acme.tenants("ListApiKeys", r)) for r in (foreign, missing)]  # type: ignore[misc]
    assert [type(error) for error in errors_seen] == [errors.NotFound] * 2
    assert errors_seen[0].message == errors_seen[1].message.replace("nowhere", "globex")
    theirs = globex.tenants("ListApiKeys", tenants_pb2.ListApiKeysRequest()).keys[0]
    revoke = tenants_pb2.RevokeApiKeyRequest(id=theirs.id)
    assert raised(lambda: acme.tenants("RevokeApiKey", revoke)).message == f"api_key {theirs.id!r} does not exist"
    for_others = tenants_pb2.CreateApiKeyRequest(tenant="globex", role=tenants_pb2.ROLE_VIEWER, name="x")
    assert type(raised(lambda: acme.tenants("CreateApiKey", for_others))) is errors.NotFound
    too_much = tenants_pb2.CreateApiKeyRequest(role=tenants_pb2.ROLE_ADMINISTRATOR, name="x")
    refused = raised(lambda: acme.tenants("CreateApiKey", too_much))
    assert isinstance(refused, errors.InvalidRequest)
    assert set(refused.violations) == {"role"}
    all_admins = admin.tenants("ListApiKeys", tenants_pb2.ListApiKeysRequest()).keys
    assert {key.role for key in all_admins} == {tenants_pb2.ROLE_ADMINISTRATOR}


def test_a_key_expires_in_the_future_or_not_at_all(acme: Caller) -> None:
    request = tenants_pb2.CreateApiKeyRequest(role=tenants_pb2.ROLE_VIEWER, name="late")
    request.expires_at.FromDatetime(datetime.now(UTC) - timedelta(days=1))
    error = raised(lambda: acme.tenants("CreateApiKey", request))
    assert isinstance(error, errors.InvalidRequest)
    assert set(error.violations) == {"expires_at"}
    request.expires_at.FromDatetime(datetime.now(UTC) + timedelta(days=1))
    assert acme.tenants("CreateApiKey", request).key.expires_at == request.expires_at


# --- datasets ----------------------------------------------------------------------------------


def test_the_same_bytes_are_read_once_and_found_by_every_name(gateway: RunningGateway, globex: Caller) -> None:
    before = len(gateway.scheduler.ingests)
    first = upload(globex, CSV, name="one", labels={"team": "a"})
    second = upload(
        globex, CSV, name="two", labels={"site": "b"}, sha256=hashlib.sha256(CSV).hexdigest(), size_bytes=len(CSV)
    )
    assert first.id == second.id
    assert dict(second.labels) == {"team": "a", "site": "b"}
    assert second.profile.rows == 40
    assert len(gateway.scheduler.ingests) == before + 1
    for name in ("one", "two", first.id):
        found = globex.datasets("GetDataset", datasets_pb2.GetDatasetRequest(dataset=name)).dataset
        assert found.id == first.id
    assert gateway.count("tenants", "globex", "staging") == 0
    assert gateway.count("tenants", "globex", "blobs") == 1


@pytest.mark.parametrize(
    "announced",
    [{"sha256": "0" * 64}, {"size_bytes": len(CSV) + 1}, {"size_bytes": len(CSV) - 1}, {"size_bytes": 0}],
    ids=["hash", "fewer", "more", "some"],
)
def test_bytes_other_than_announced_leave_nothing_behind(
    gateway: RunningGateway, acme: Caller, announced: dict[str, Any]
) -> None:
    before = gateway.count("tenants", "acme")
    error = raised(lambda: upload(acme, CSV + b"9,9,z\n", name="broken", **announced))
    assert type(error) is errors.ChecksumMismatch
    assert gateway.count("tenants", "acme") == before
    assert type(raised(lambda: acme.datasets("GetDataset", datasets_pb2.GetDatasetRequest(dataset="broken")))) is (
        errors.NotFound
    )


def test_bytes_that_cannot_be_read_are_the_callers_error(gateway: RunningGateway, acme: Caller) -> None:
    before = gateway.count("tenants", "acme")
    error = raised(lambda: upload(acme, b"nothing of a table", name="broken"))
    assert isinstance(error, errors.InvalidRequest)
    assert error.violations == {"chunk": "the file holds no table. send CSV with a header"}
    assert gateway.count("tenants", "acme") == before


def test_a_dataset_over_the_quota_is_refused_by_what_arrives(admin: Caller, channel: grpc.Channel) -> None:
    small = tenants_pb2.CreateTenantRequest(slug="small", quota=tenants_pb2.Quota(max_dataset_bytes=100))
    caller = Caller(channel, admin.tenants("CreateTenant", small).secret)
    for header in ({}, {"size_bytes": len(CSV)}, {"size_bytes": 50}):
        error = raised(lambda header=header: upload(caller, CSV, name="big", **header))  # type: ignore[misc]
        expected = errors.ChecksumMismatch if header.get("size_bytes") == 50 else errors.QuotaExceeded
        assert type(error) is expected
        if isinstance(error, errors.QuotaExceeded):
            assert error.limit == "max_dataset_bytes"


def test_an_upload_begins_with_its_header(acme: Caller) -> None:
    chunk = datasets_pb2.UploadDatasetRequest(chunk=b"a")
    header = datasets_pb2.UploadDatasetRequest(header=datasets_pb2.UploadHeader(name="x"))
    for parts, field in (([], "header"), ([chunk], "header"), ([header, header], "chunk")):
        error = raised(lambda parts=parts: acme.datasets("UploadDataset", iter(parts)))  # type: ignore[misc]
        assert isinstance(error, errors.InvalidRequest)
        assert set(error.violations) == {field}


def test_all_of_a_headers_mistakes_are_named(acme: Caller) -> None:
    header = {
        "name": "ds-" + "0" * 32,
        "sha256": "xyz",
        "size_bytes": -1,
        "labels": {"a=b": "1"},
        "read_options": datasets_pb2.ReadOptions(delimiter=";;"),
    }
    error = raised(lambda: upload(acme, CSV, **header))
    assert isinstance(error, errors.InvalidRequest)
    assert set(error.violations) == {
        "header.name",
        "header.sha256",
        "header.size_bytes",
        "header.labels[a=b]",
        "header.read_options.delimiter",
    }


def test_a_dataset_is_named_after_its_file_where_it_has_no_name(acme: Caller) -> None:
    assert upload(acme, CSV, file_name="data/petals.csv").name == "petals.csv"
    error = raised(lambda: upload(acme, CSV))
    assert isinstance(error, errors.InvalidRequest)
    assert set(error.violations) == {"header.name"}


def test_a_source_is_registered_from_below_an_allowed_root_only(gateway: RunningGateway, acme: Caller) -> None:
    for tenant in TENANTS:
        folder = gateway.root / "sources" / tenant
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trees.csv").write_bytes(CSV + tenant.encode() + b",1,z\n")
    uri = str(gateway.root / "sources" / "acme" / "trees.csv")
    found = acme.datasets("RegisterDataset", datasets_pb2.RegisterDatasetRequest(uri=uri)).dataset
    assert (found.name, found.source_uri, found.profile.rows) == ("trees.csv", uri, 41)
    for outside in (uri.replace("acme", "globex"), f"{gateway.root}/sources/acme/../globex/trees.csv", "/etc/passwd"):
        request = datasets_pb2.RegisterDatasetRequest(uri=outside)
        error = raised(lambda request=request: acme.datasets("RegisterDataset", request))  # type: ignore[misc]
        assert isinstance(error, errors.InvalidRequest)
        assert set(error.violations) == {"uri"}
    missing = datasets_pb2.RegisterDatasetRequest(uri=uri + "x")
    assert type(raised(lambda: acme.datasets("RegisterDataset", missing))) is errors.NotFound


def test_a_preview_shows_the_rows_and_columns_asked_for(acme: Caller, dataset: datasets_pb2.Dataset) -> None:
    request = datasets_pb2.PreviewDatasetRequest(dataset="flowers", rows=2, columns=["label", "a"])
    preview = acme.datasets("PreviewDataset", request)
    assert list(preview.columns) == ["label", "a"]
    assert [list(row.values) for row in preview.rows] == [["x", "0"], ["y", "1"]]
    assert len(acme.datasets("PreviewDataset", datasets_pb2.PreviewDatasetRequest(dataset="flowers")).rows) == 20
    wrong = datasets_pb2.PreviewDatasetRequest(dataset="flowers", columns=["a", "nope"])
    error = raised(lambda: acme.datasets("PreviewDataset", wrong))
    assert isinstance(error, errors.InvalidRequest)
    assert error.violations == {"columns[1]": "no column 'nope'"}
    many = datasets_pb2.PreviewDatasetRequest(dataset="flowers", rows=1001)
    assert type(raised(lambda: acme.datasets("PreviewDataset", many))) is errors.InvalidRequest


def test_a_dataset_in_use_stays_and_then_goes_with_its_bytes(gateway: RunningGateway, acme: Caller) -> None:
    data = CSV + b"100,1,x\n"
    found = upload(acme, data, name="passing")
    blob = names.blob_key("acme", found.sha256)
    submit(acme, "user-of-passing", dataset="passing")
    delete = datasets_pb2.DeleteDatasetRequest(id=found.id)
    assert type(raised(lambda: acme.datasets("DeleteDataset", delete))) is errors.FailedPrecondition
    acme.jobs("CancelJob", jobs_pb2.CancelJobRequest(job_id="user-of-passing"))
    other = upload(acme, data, name="passing-too", read_options=datasets_pb2.ReadOptions(null_values=["?"]))
    assert other.id != found.id
    acme.datasets("DeleteDataset", delete)
    assert gateway.count("tenants", "acme", "datasets", found.id) == 0
    assert gateway.run(gateway.objects.exists(blob))
    acme.datasets("DeleteDataset", datasets_pb2.DeleteDatasetRequest(id=other.id))
    assert not gateway.run(gateway.objects.exists(blob))
    assert type(raised(lambda: acme.datasets("DeleteDataset", delete))) is errors.NotFound


def test_datasets_are_listed_by_page(globex: Caller) -> None:
    for number in range(3):
        upload(globex, CSV + b"1,%d,x\n" % number, name=f"page-{number}")
    listed: list[str] = []
    token = ""
    for _ in range(3):
        request = datasets_pb2.ListDatasetsRequest(name="page-*", page_size=2, page_token=token)
        page = globex.datasets("ListDatasets", request)
        listed += [found.name for found in page.datasets]
        assert page.total_count == 3
        token = page.next_page_token
        if not token:
            break
    assert listed == ["page-2", "page-1", "page-0"]


# --- jobs --------------------------------------------------------------------------------------


def test_a_job_is_accepted_once_however_often_it_is_sent(
    gateway: RunningGateway, acme: Caller, dataset: datasets_pb2.Dataset
) -> None:
    before = gateway.scheduler.started
    jobs = [submit(acme, "often", labels={"b": "1", "a": "2"}) for _ in range(5)]
    assert {job.id for job in jobs} == {"often"}
    assert gateway.scheduler.started == before + 1
    assert jobs[0].owner == "acme-owner"
    assert jobs[0].plan.dataset_id == dataset.id
    assert jobs[0].plan.task == jobs_pb2.TASK_CLASSIFICATION
    error = raised(lambda: submit(acme, "often", seed=1))
    assert type(error) is errors.RequestIdReused


def test_a_full_queue_refuses_new_jobs_and_still_knows_the_old(
    gateway: RunningGateway, admin: Caller, channel: grpc.Channel
) -> None:
    quota = tenants_pb2.Quota(max_active_jobs=1)
    created = admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug="narrow", quota=quota))
    caller = Caller(channel, created.secret)
    found = upload(caller, CSV, name="flowers")
    submit(caller, "first")
    with pytest.raises(grpc.RpcError) as caught:
        submit(caller, "second")
    error = from_rpc_error(caught.value)
    assert isinstance(error, errors.QuotaExceeded)
    assert error.limit == "max_active_jobs"
    assert retry_after_seconds(caught.value) == error.retry_after_seconds
    assert submit(caller, "first").id == "first"
    assert type(raised(lambda: submit(caller, "first", seed=5))) is errors.RequestIdReused
    caller.jobs("CancelJob", jobs_pb2.CancelJobRequest(job_id="first"))
    caller.datasets("DeleteDataset", datasets_pb2.DeleteDatasetRequest(id=found.id))
    assert submit(caller, "first").id == "first"


def test_every_mistake_of_a_submission_is_named(acme: Caller, dataset: datasets_pb2.Dataset) -> None:
    request = jobs_pb2.SubmitTrainingRequest(request_id="Not An Id")
    request.spec.validation.folds = 70
    with pytest.raises(grpc.RpcError) as caught:
        acme.jobs("SubmitTraining", request)
    assert set(details(caught.value, BadRequest)) == {
        "request_id",
        "spec.dataset",
        "spec.target",
        "spec.validation.folds",
    }
    for resources, limit in (
        (jobs_pb2.Resources(cpus=9), "spec.resources.cpus"),
        (jobs_pb2.Resources(memory_bytes=2**40), "spec.resources.memory_bytes"),
    ):
        error = raised(lambda resources=resources: submit(acme, "greedy", resources=resources))  # type: ignore[misc]
        assert isinstance(error, errors.InvalidRequest)
        assert set(error.violations) == {limit}
    estimator = estimator_pb2.EstimatorSpec(path="os.system")
    assert type(raised(lambda: submit(acme, "evil", estimator=estimator))) is errors.InvalidRequest


def details(error: grpc.RpcError, kind: type[Any]) -> list[str]:
    trailers: Any = error.trailing_metadata()
    for packed in Status.FromString(dict(trailers)[DETAILS_TRAILER]).details:
        found = kind()
        if packed.Unpack(found):
            if isinstance(found, BadRequest):
                return [violation.field for violation in found.field_violations]
            if isinstance(found, ResourceInfo):
                return [found.resource_type, found.resource_name]
            return [found.reason, found.domain]
    return []


def test_standard_details_arrive(acme: Caller) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        acme.jobs("GetJob", jobs_pb2.GetJobRequest(job_id="nowhere"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert details(caught.value, ErrorInfo) == ["NOT_FOUND", "mlops"]
    assert details(caught.value, ResourceInfo) == ["job", "nowhere"]


def test_a_dry_run_starts_nothing(gateway: RunningGateway, acme: Caller, dataset: datasets_pb2.Dataset) -> None:
    before = gateway.scheduler.started
    spec = jobs_pb2.TrainingSpec(dataset="flowers", target="label", validation=jobs_pb2.Validation(folds=3))
    answer = acme.jobs("ValidateTraining", jobs_pb2.ValidateTrainingRequest(spec=spec))
    assert answer.plan.folds == 3
    assert list(answer.steps) == ["fit", "fold-0", "fold-1", "fold-2", "evaluate"]
    assert gateway.scheduler.started == before


def test_a_watch_shows_what_happened_behind_its_cursor_and_ends_with_the_job(
    gateway: RunningGateway, acme: Caller, dataset: datasets_pb2.Dataset
) -> None:
    submit(acme, "watched")
    events = acme.jobs("WatchJob", jobs_pb2.WatchJobRequest(job_id="watched", cursor="1"))
    assert next(events).step.step == "fit"
    assert dict(next(events).metrics.values) == {"r2": 0.5}
    acme.jobs("CancelJob", jobs_pb2.CancelJobRequest(job_id="watched", reason="enough"))
    (last,) = list(events)
    assert last.job.state == jobs_pb2.JOB_STATE_CANCELLED
    wrong = jobs_pb2.WatchJobRequest(job_id="watched", cursor="here")
    assert type(raised(lambda: next(acme.jobs("WatchJob", wrong)))) is errors.InvalidRequest
    missing = jobs_pb2.WatchJobRequest(job_id="nowhere")
    assert type(raised(lambda: next(acme.jobs("WatchJob", missing)))) is errors.NotFound


def test_who_only_waits_is_sent_nothing_but_the_end(
    gateway: RunningGateway, acme: Caller, dataset: datasets_pb2.Dataset
) -> None:
    submit(acme, "awaited")
    events = acme.jobs("WatchJob", jobs_pb2.WatchJobRequest(job_id="awaited", end_only=True))
    acme.jobs("CancelJob", jobs_pb2.CancelJobRequest(job_id="awaited"))
    (last,) = list(events)
    assert last.job.state == jobs_pb2.JOB_STATE_CANCELLED
    missing = jobs_pb2.WatchJobRequest(job_id="nowhere", end_only=True)
    assert type(raised(lambda: next(acme.jobs("WatchJob", missing)))) is errors.NotFound


def test_a_watcher_that_goes_away_is_let_go(
    gateway: RunningGateway, acme: Caller, dataset: datasets_pb2.Dataset
) -> None:
    submit(acme, "left")
    before = gateway.scheduler.watchers
    events = acme.jobs("WatchJob", jobs_pb2.WatchJobRequest(job_id="left"))
    next(events)
    assert gateway.scheduler.watchers == before + 1
    events.cancel()
    until(lambda: gateway.scheduler.watchers == before)


def test_jobs_are_listed_by_page_with_counts(admin: Caller, channel: grpc.Channel) -> None:
    created = admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug="listing"))
    caller = Caller(channel, created.secret)
    upload(caller, CSV, name="flowers")
    for name in ("a", "b", "c"):
        submit(caller, name)
    caller.jobs("CancelJob", jobs_pb2.CancelJobRequest(job_id="c"))
    page = caller.jobs("ListJobs", jobs_pb2.ListJobsRequest(page_size=2))
    assert [job.id for job in page.jobs] == ["a", "b"]
    assert {count.state: count.count for count in page.counts} == {
        jobs_pb2.JOB_STATE_QUEUED: 2,
        jobs_pb2.JOB_STATE_CANCELLED: 1,
    }
    rest = caller.jobs("ListJobs", jobs_pb2.ListJobsRequest(page_size=2, page_token=page.next_page_token))
    assert [job.id for job in rest.jobs] == ["c"]
    other = jobs_pb2.JobFilter(states=[jobs_pb2.JOB_STATE_QUEUED])
    foreign = jobs_pb2.ListJobsRequest(filter=other, page_size=2, page_token=page.next_page_token)
    assert type(raised(lambda: caller.jobs("ListJobs", foreign))) is errors.InvalidRequest


def test_an_ended_job_is_deleted_with_its_files(
    gateway: RunningGateway, acme: Caller, dataset: datasets_pb2.Dataset
) -> None:
    submit(acme, "ended")
    gateway.run(gateway.objects.write_bytes(names.step_key("acme", "ended", "fit", "result.json"), b"{}"))
    delete = jobs_pb2.DeleteJobRequest(job_id="ended")
    assert type(raised(lambda: acme.jobs("DeleteJob", delete))) is errors.FailedPrecondition
    gateway.scheduler.end(gateway.scheduler.jobs["acme", "ended"], JobState.SUCCEEDED)
    acme.jobs("DeleteJob", delete)
    assert gateway.count("tenants", "acme", "jobs", "ended") == 0
    assert type(raised(lambda: acme.jobs("DeleteJob", delete))) is errors.NotFound


# --- the wall ----------------------------------------------------------------------------------


def test_anothers_things_answer_as_if_they_did_not_exist(
    acme: Caller, globex: Caller, dataset: datasets_pb2.Dataset
) -> None:
    submit(acme, "secret")
    calls: list[tuple[str, str, Callable[[str], Message], str]] = [
        ("Jobs", "GetJob", lambda name: jobs_pb2.GetJobRequest(job_id=name), "secret"),
        ("Jobs", "CancelJob", lambda name: jobs_pb2.CancelJobRequest(job_id=name), "secret"),
        ("Jobs", "DeleteJob", lambda name: jobs_pb2.DeleteJobRequest(job_id=name), "secret"),
        ("Datasets", "GetDataset", lambda name: datasets_pb2.GetDatasetRequest(dataset=name), "flowers"),
        ("Datasets", "PreviewDataset", lambda name: datasets_pb2.PreviewDatasetRequest(dataset=name), "flowers"),
        ("Models", "GetModel", lambda name: models_pb2.GetModelRequest(name=name), "churn"),
    ]
    for service, method, request, name in calls:
        theirs = raised(lambda s=service, m=method, r=request, n=name: globex.call(s, m, r(n)))  # type: ignore[misc]
        no_ones = raised(lambda s=service, m=method, r=request: globex.call(s, m, r("nothing")))  # type: ignore[misc]
        assert type(theirs) is errors.NotFound, method
        assert theirs.message.replace(name, "nothing") == no_ones.message
    ours = acme.jobs("GetJob", jobs_pb2.GetJobRequest(job_id="secret"))
    assert ours.job.state == jobs_pb2.JOB_STATE_QUEUED


# --- errors, malformed requests ----------------------------------------------------------------


def test_a_defect_leaves_with_an_incident_and_nothing_else(gateway: RunningGateway, acme: Caller) -> None:
    for failure in (RuntimeError("password=hunter2"), errors.Internal("password=hunter2")):
        gateway.scheduler.failure = failure
        error = raised(lambda: acme.jobs("GetJob", jobs_pb2.GetJobRequest(job_id="any")))
        assert type(error) is errors.Internal
        assert error.details["incident"] in error.message
        assert "hunter2" not in error.message


def test_a_service_that_is_away_says_when_to_try_again(gateway: RunningGateway, acme: Caller) -> None:
    gateway.scheduler.failure = errors.SchedulerUnavailable("Temporal does not answer")
    with pytest.raises(grpc.RpcError) as caught:
        acme.jobs("GetJob", jobs_pb2.GetJobRequest(job_id="any"))
    assert type(from_rpc_error(caught.value)) is errors.SchedulerUnavailable
    assert retry_after_seconds(caught.value) == 1.0


UNARY = [
    (service, method)
    for service, method in METHODS
    if not SERVICES[service].methods_by_name[method].client_streaming
    and not SERVICES[service].methods_by_name[method].server_streaming
]
DEFECTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}


@pytest.mark.parametrize(("service", "method"), UNARY)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_malformed_requests_are_never_a_defect(
    acme: Caller, admin: Caller, channel: grpc.Channel, service: str, method: str, data: st.DataObject
) -> None:
    descriptor = SERVICES[service].methods_by_name[method]
    caller = admin if LEAST_ROLE[f"/mlops.v1.{service}/{method}"] is Role.ADMINISTRATOR else acme
    raw = data.draw(st.one_of(st.binary(max_size=60), messages(GetMessageClass(descriptor.input_type))))
    call: Any = channel.unary_unary(f"/mlops.v1.{service}/{method}", None, None)
    ended = call.future(raw, metadata=caller.metadata, timeout=DEADLINE)
    assert ended.code() not in DEFECTS, ended.details()


def messages(kind: type[Message]) -> st.SearchStrategy[bytes]:
    """Well-formed messages with values that make no sense."""
    texts = st.one_of(st.text(max_size=8), st.sampled_from(["acme", "flowers", "\0", "*", "../..", "a" * 300]))
    numbers = st.one_of(st.sampled_from([0, -1, 1, 2**31 - 1]), st.integers(-(2**31), 2**31 - 1))

    def fill(message: Message, draw: Any, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if draw(st.booleans()) or depth > 4:
                continue
            target = getattr(message, field.name)
            entry = field.message_type
            if entry is not None and entry.GetOptions().map_entry:
                if entry.fields_by_name["value"].message_type is not None:
                    fill(target[draw(st.text(max_size=8))], draw, depth + 1)
                else:
                    value = entry.fields_by_name["value"]
                    target[draw(st.text(max_size=8))] = draw(texts if value.type == value.TYPE_STRING else numbers)
            elif entry is not None:
                fill(target.add() if field.is_repeated else target, draw, depth + 1)
                if not field.is_repeated:
                    target.SetInParent()
            else:
                strategy = {
                    field.TYPE_STRING: texts,
                    field.TYPE_BOOL: st.booleans(),
                    field.TYPE_DOUBLE: st.floats(),
                }.get(field.type, numbers)
                if field.is_repeated:
                    target.append(draw(strategy))
                else:
                    setattr(message, field.name, draw(strategy))

    @st.composite
    def filled(draw: Any) -> bytes:
        message = kind()
        fill(message, draw, 0)
        return message.SerializeToString()

    return filled()


@pytest.mark.parametrize("method", ["/mlops.v1.Datasets/UploadDataset", "/mlops.v1.Jobs/WatchJob"])
def test_malformed_streams_are_never_a_defect(acme: Caller, channel: grpc.Channel, method: str) -> None:
    for raw in (b"\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x01\0", b""):
        if method.endswith("WatchJob"):
            answer: Any = channel.unary_stream(method, None, None)(raw, metadata=acme.metadata, timeout=DEADLINE)
            error = raised(lambda answer=answer: next(answer))  # type: ignore[misc]
        else:
            upload_call: Any = channel.stream_unary(method, None, None)
            parts = iter([raw])
            error = raised(lambda c=upload_call, p=parts: c(p, metadata=acme.metadata, timeout=DEADLINE))  # type: ignore[misc]
        assert type(error) in (errors.InvalidRequest, errors.NotFound), raw


def test_a_request_that_is_too_large_is_refused(acme: Caller) -> None:
    request = jobs_pb2.GetJobRequest(job_id="a" * 300_000)
    assert type(raised(lambda: acme.jobs("GetJob", request))) is errors.InvalidRequest
    huge = jobs_pb2.GetJobRequest(job_id="a" * 18_000_000)
    with pytest.raises(grpc.RpcError) as caught:
        acme.jobs("GetJob", huge)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_estimator_nested_without_end_is_refused(acme: Caller, dataset: datasets_pb2.Dataset) -> None:
    spec = estimator_pb2.EstimatorSpec(path="sklearn.pipeline.Pipeline")
    inner = spec
    for _ in range(30):
        inner = inner.params["e"].object
        inner.path = "sklearn.pipeline.Pipeline"
    assert type(raised(lambda: submit(acme, "deep", estimator=spec))) is errors.InvalidRequest


# --- health, reflection, shutdown --------------------------------------------------------------


def test_health_and_reflection_take_no_key(channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    for name in ("", *(f"mlops.v1.{service}" for service in SERVICES)):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    ask = reflection_pb2.ServerReflectionRequest(list_services="")
    answers = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([ask]), timeout=DEADLINE)
    listed = {service.name for service in next(iter(answers)).list_services_response.service}
    assert {f"mlops.v1.{service}" for service in SERVICES} <= listed


def test_a_gateway_that_stops_says_so_and_ends_its_watches(tmp_path: Path) -> None:
    with running_gateway(tmp_path) as running:
        channel = running.channel()
        admin = Caller(channel, running.admin)
        created = admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug="acme"))
        acme = Caller(channel, created.secret)
        upload(acme, CSV, name="flowers")
        submit(acme, "watched")
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=DEADLINE)
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        events = acme.jobs("WatchJob", jobs_pb2.WatchJobRequest(job_id="watched"))
        assert next(events).cursor == "1"
        began = time.monotonic()
        running.run(running.gateway.stop(timedelta(seconds=1)))
        assert time.monotonic() - began < 5
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            list(events)
        assert type(from_rpc_error(caught.value)) is errors.Unavailable
        assert retry_after_seconds(caught.value) == 1.0


def test_a_port_that_is_taken_is_said_so(gateway: RunningGateway, tmp_path: Path) -> None:
    with running_gateway(tmp_path) as other, pytest.raises(errors.Unavailable, match="cannot listen"):
        other.run(other.gateway.start(f"127.0.0.1:{gateway.port}"))
