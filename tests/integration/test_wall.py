"""The wall between two tenants, on the real stack: what is another's answers as what is no one's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.message import Message

from mlops import Client, errors, names
from mlops.client import JobHandle
from mlops.jobs.job import JobState
from mlops.tenants.tenant import TenantState
from mlops.tracking.credentials import Account
from mlops.v1 import datasets_pb2, jobs_pb2, models_pb2, open_inference_pb2, tenants_pb2
from mlops.wire.status import DETAILS_TRAILER
from tests.fixtures.gateway import Caller
from tests.fixtures.stack import RunningStack

FILES = {"Jobs": jobs_pb2, "Datasets": datasets_pb2, "Models": models_pb2, "Tenants": tenants_pb2}
SERVICES = {name: file.DESCRIPTOR.services_by_name[name] for name, file in FILES.items()}
SERVICES["GRPCInferenceService"] = open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
CSV = b"pay,age,level\n" + b"".join(b"%d,%d,%s\n" % (i * 37 % 101, i % 60, b"xy"[i % 2 : i % 2 + 1]) for i in range(80))
WAIT_SECONDS = 150
# It fits until it is told to stop: these rows never converge.
ENDLESS = {"max_iter": 10**6, "n_iter_no_change": 10**6, "tol": 0.0}


def like(text: str) -> str:
    """A name of the same shape that nothing has: what is behind the last hyphen is random hexadecimal."""
    head, hyphen, tail = text.rpartition("-")
    return head + hyphen + secrets.token_hex(len(tail) // 2)


@dataclass(frozen=True, kw_only=True)
class Side:
    """A tenant with something of everything."""

    slug: str
    key: str
    key_id: str
    dataset: str
    dataset_name: str
    job: str
    busy_job: str
    cursor: str
    run: str
    experiment: str
    model: str
    source: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """A call of one RPC about something that is named. `thing` is the field of Side that names it."""

    service: str
    method: str
    thing: str
    request: Callable[[str], Any]

    def __str__(self) -> str:
        return f"{self.service}.{self.method}-{self.thing}"


def upload_parts(name: str, data: bytes = CSV) -> Iterator[datasets_pb2.UploadDatasetRequest]:
    yield datasets_pb2.UploadDatasetRequest(header=datasets_pb2.UploadHeader(name=name, file_name="pay.csv"))
    yield datasets_pb2.UploadDatasetRequest(chunk=data)


def training(dataset: str) -> jobs_pb2.TrainingSpec:
    return jobs_pb2.TrainingSpec(dataset=dataset, target="level")


def submission(dataset: str) -> jobs_pb2.SubmitTrainingRequest:
    return jobs_pb2.SubmitTrainingRequest(request_id="intruding", spec=training(dataset))


def batch(model: str) -> jobs_pb2.BatchInferenceSpec:
    """Over the table that the model's owner trained it on."""
    return jobs_pb2.BatchInferenceSpec(model=model, dataset=model.replace("pay-", "salaries-"))


def prediction(**which: Any) -> models_pb2.PredictRequest:
    columns = [models_pb2.FrameColumn(name=name, doubles=models_pb2.Doubles(values=[30.0])) for name in ("pay", "age")]
    return models_pb2.PredictRequest(rows=models_pb2.Frame(columns=columns), **which)


def inference(**which: Any) -> open_inference_pb2.ModelInferRequest:
    rows = open_inference_pb2.ModelInferRequest.InferInputTensor(name="rows", datatype="FP64", shape=[1, 2])
    return open_inference_pb2.ModelInferRequest(inputs=[rows], raw_input_contents=[b"\0" * 16], **which)


# What names something, of every RPC that takes a name.
CASES = [
    Case(service="Jobs", method="GetJob", thing="job", request=lambda it: jobs_pb2.GetJobRequest(job_id=it)),
    Case(service="Jobs", method="GetJob", thing="busy_job", request=lambda it: jobs_pb2.GetJobRequest(job_id=it)),
    Case(service="Jobs", method="WatchJob", thing="job", request=lambda it: jobs_pb2.WatchJobRequest(job_id=it)),
    Case(service="Jobs", method="WatchJob", thing="busy_job", request=lambda it: jobs_pb2.WatchJobRequest(job_id=it)),
    Case(service="Jobs", method="CancelJob", thing="job", request=lambda it: jobs_pb2.CancelJobRequest(job_id=it)),
    Case(service="Jobs", method="CancelJob", thing="busy_job", request=lambda it: jobs_pb2.CancelJobRequest(job_id=it)),
    Case(service="Jobs", method="DeleteJob", thing="job", request=lambda it: jobs_pb2.DeleteJobRequest(job_id=it)),
    Case(service="Jobs", method="DeleteJob", thing="busy_job", request=lambda it: jobs_pb2.DeleteJobRequest(job_id=it)),
    *(
        Case(service=service, method=method, thing=thing, request=request)
        for thing in ("dataset", "dataset_name")
        for service, method, request in (
            ("Jobs", "SubmitTraining", submission),
            ("Jobs", "ValidateTraining", lambda it: jobs_pb2.ValidateTrainingRequest(spec=training(it))),
            ("Datasets", "GetDataset", lambda it: datasets_pb2.GetDatasetRequest(dataset=it)),
            ("Datasets", "PreviewDataset", lambda it: datasets_pb2.PreviewDatasetRequest(dataset=it)),
            ("Datasets", "DeleteDataset", lambda it: datasets_pb2.DeleteDatasetRequest(id=it)),
        )
    ),
    Case(
        service="Datasets",
        method="RegisterDataset",
        thing="source",
        request=lambda it: datasets_pb2.RegisterDatasetRequest(uri=it),
    ),
    Case(service="Models", method="GetModel", thing="model", request=lambda it: models_pb2.GetModelRequest(name=it)),
    Case(
        service="Models",
        method="ListModelVersions",
        thing="model",
        request=lambda it: models_pb2.ListModelVersionsRequest(name=it),
    ),
    Case(
        service="Models",
        method="GetModelVersion",
        thing="model",
        request=lambda it: models_pb2.GetModelVersionRequest(name=it, version=1),
    ),
    Case(
        service="Models",
        method="GetModelVersion",
        thing="model",
        request=lambda it: models_pb2.GetModelVersionRequest(name=it, alias="champion"),
    ),
    *(
        Case(service="Jobs", method=method, thing=thing, request=request)
        for thing in ("job", "busy_job")
        for method, request in (
            ("RetryJob", lambda it: jobs_pb2.RetryJobRequest(job_id=it)),
            ("DownloadResult", lambda it: jobs_pb2.DownloadResultRequest(job_id=it)),
        )
    ),
    *(
        Case(service="Jobs", method=method, thing="model", request=request)
        for method, request in (
            (
                "SubmitBatchInference",
                lambda it: jobs_pb2.SubmitBatchInferenceRequest(request_id="intruding-batch", spec=batch(it)),
            ),
            ("ValidateBatchInference", lambda it: jobs_pb2.ValidateBatchInferenceRequest(spec=batch(it))),
        )
    ),
    *(
        Case(service="Models", method=method, thing="model", request=request)
        for method, request in (
            ("Predict", lambda it: prediction(model=it)),
            ("Predict", lambda it: prediction(model=it, version=1)),
            ("Predict", lambda it: prediction(model=it, alias="champion")),
            ("SetModelAlias", lambda it: models_pb2.SetModelAliasRequest(name=it, alias="mine", version=1)),
            ("DeleteModelAlias", lambda it: models_pb2.DeleteModelAliasRequest(name=it, alias="champion")),
            ("GetTraffic", lambda it: models_pb2.GetTrafficRequest(model=it)),
            ("SetTraffic", lambda it: models_pb2.SetTrafficRequest(model=it)),
            ("GetServingFigures", lambda it: models_pb2.GetServingFiguresRequest(model=it)),
        )
    ),
    *(
        Case(service="GRPCInferenceService", method=method, thing="model", request=request)
        for method, request in (
            ("ModelInfer", lambda it: inference(model_name=it)),
            ("ModelInfer", lambda it: inference(model_name=it, model_version="1")),
            ("ModelMetadata", lambda it: open_inference_pb2.ModelMetadataRequest(name=it)),
        )
    ),
    *(
        Case(service="Tenants", method=method, thing="slug", request=request)
        for method, request in (
            ("CreateTenant", lambda it: tenants_pb2.CreateTenantRequest(slug=it)),
            ("GetTenant", lambda it: tenants_pb2.GetTenantRequest(slug=it)),
            ("UpdateTenant", lambda it: tenants_pb2.UpdateTenantRequest(slug=it, weight=9)),
            ("DeleteTenant", lambda it: tenants_pb2.DeleteTenantRequest(slug=it, force=True)),
            (
                "CreateApiKey",
                lambda it: tenants_pb2.CreateApiKeyRequest(tenant=it, role=tenants_pb2.ROLE_OWNER, name="intruder"),
            ),
            ("ListApiKeys", lambda it: tenants_pb2.ListApiKeysRequest(tenant=it)),
        )
    ),
    Case(
        service="Tenants",
        method="RevokeApiKey",
        thing="key_id",
        request=lambda it: tenants_pb2.RevokeApiKeyRequest(id=it),
    ),
]
# What names nothing of another's: each has a test of its own below.
NAMELESS = {
    ("Jobs", "ListJobs"),
    ("Datasets", "ListDatasets"),
    ("Datasets", "UploadDataset"),
    ("Models", "ListModels"),
    ("Tenants", "ListTenants"),
    ("GRPCInferenceService", "ServerLive"),
    ("GRPCInferenceService", "ServerReady"),
    ("GRPCInferenceService", "ServerMetadata"),
    # What is another's is not ready, as what is no one's: no error tells of it (test_serving.py).
    ("GRPCInferenceService", "ModelReady"),
}


# --- two tenants -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tenants(stack: RunningStack) -> Iterator[tuple[Side, Side]]:
    """(owner, intruder): each with datasets, an ended job with a registered model, and keys; the owner's is at work."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    made: list[tuple[str, str, Client, JobHandle]] = []
    busy: JobHandle | None = None
    try:
        for _ in range(2):
            slug, key = stack.new_tenant()
            client = stack.client(key)
            suffix = secrets.token_hex(5)
            imports = stack.directory / "imports" / slug
            imports.mkdir(parents=True)
            (imports / f"pay-{suffix}").write_bytes(CSV)
            path = stack.directory / f"pay-{suffix}.csv"
            # Of no one else: the two tenants' tables differ, so that their datasets' ids do.
            path.write_bytes(CSV + f"{len(made)},{int(suffix, 16)},x\n".encode())
            dataset = client.datasets.upload(path, name=f"salaries-{suffix}", labels={"of": slug})
            job = client.train(
                LogisticRegression(),
                dataset,
                target="level",
                name=f"pay-{suffix}",
                request_id=f"secret-{secrets.token_hex(8)}",
                features=["pay", "age"],
                labels={"of": slug},
            )
            made.append((slug, key, client, job))
        owner = made[0][2]
        busy = owner.train(
            MLPClassifier(**ENDLESS),
            made[0][3].job.dataset_id,
            target="level",
            features=["pay", "age"],
            request_id=f"busy-{secrets.token_hex(8)}",
            time_limit="20m",
        )
        yield _side(stack, made[0], busy.id), _side(stack, made[1], f"busy-{secrets.token_hex(8)}")
    finally:
        if busy is not None:
            assert busy.refresh().state is JobState.RUNNING
            busy.cancel("the tests are over")
            with pytest.raises(errors.JobCancelled):
                busy.wait(timeout=WAIT_SECONDS)
        for _, _, client, _ in made:
            client.close()


def _side(stack: RunningStack, made: tuple[str, str, Client, JobHandle], busy_job: str) -> Side:
    slug, key, client, job = made
    result = job.wait(timeout=WAIT_SECONDS)
    dataset = client.datasets.get(job.job.dataset_id)
    suffix = dataset.name.rpartition("-")[2]
    return Side(
        slug=slug,
        key=key,
        key_id=next(iter(client.keys.list())).id,
        dataset=dataset.id,
        dataset_name=dataset.name,
        job=job.id,
        busy_job=busy_job,
        cursor=[event.cursor for event in job.watch()][2],
        run=result.run_id,
        experiment=result.experiment_id,
        model=f"pay-{suffix}",
        source=f"{stack.directory}/imports/{slug}/pay-{suffix}",
    )


@pytest.fixture(scope="module")
def owner(tenants: tuple[Side, Side]) -> Side:
    return tenants[0]


@pytest.fixture(scope="module")
def intruder(tenants: tuple[Side, Side]) -> Side:
    return tenants[1]


@pytest.fixture(scope="module")
def channel(stack: RunningStack) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(stack.address) as opened:
        yield opened


@pytest.fixture
def inside(channel: grpc.Channel, owner: Side) -> Caller:
    return Caller(channel, owner.key)


@pytest.fixture
def outside(channel: grpc.Channel, intruder: Side) -> Caller:
    return Caller(channel, intruder.key)


def answered(caller: Caller, service: str, method: str, request: Any) -> tuple[grpc.StatusCode, str, bytes]:
    """How a call ends: code, message and details."""
    try:
        answer = caller.call(service, method, request)
        if SERVICES[service].methods_by_name[method].server_streaming:
            next(answer)
    except grpc.RpcError as error:
        ended: Any = error
        return ended.code(), ended.details(), dict(ended.trailing_metadata()).get(DETAILS_TRAILER, b"")
    return grpc.StatusCode.OK, "", b""


def everything_of(inside: Caller, owner: Side) -> list[Message]:
    """What the owner sees of its own; without when a key was last used, and how far the job at work is."""
    keys = inside.tenants("ListApiKeys", tenants_pb2.ListApiKeysRequest(include_inactive=True))
    for key in keys.keys:
        key.ClearField("last_used_at")
    return [
        keys,
        inside.jobs("ListJobs", jobs_pb2.ListJobsRequest()),
        inside.jobs("GetJob", jobs_pb2.GetJobRequest(job_id=owner.job)),
        inside.datasets("ListDatasets", datasets_pb2.ListDatasetsRequest()),
        inside.datasets("PreviewDataset", datasets_pb2.PreviewDatasetRequest(dataset=owner.dataset)),
        inside.models("ListModels", models_pb2.ListModelsRequest()),
        inside.models("GetModelVersion", models_pb2.GetModelVersionRequest(name=owner.model, version=1)),
    ]


# --- every RPC ---------------------------------------------------------------------------------


def test_every_rpc_has_a_case() -> None:
    every = {(service, method) for service, found in SERVICES.items() for method in found.methods_by_name}
    assert every == {(case.service, case.method) for case in CASES} | NAMELESS
    assert not NAMELESS & {(case.service, case.method) for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_anothers_thing_answers_as_no_ones_does_and_stays_as_it_is(
    case: Case, owner: Side, inside: Caller, outside: Caller
) -> None:
    before = everything_of(inside, owner)
    theirs = getattr(owner, case.thing)
    no_ones = like(theirs)
    refusal = answered(outside, case.service, case.method, case.request(theirs))
    code, message, details = answered(outside, case.service, case.method, case.request(no_ones))
    expected = (code, message.replace(no_ones, theirs), details.replace(no_ones.encode(), theirs.encode()))
    assert refusal == expected
    assert code in (
        grpc.StatusCode.NOT_FOUND,
        *((grpc.StatusCode.PERMISSION_DENIED,) if case.thing == "slug" else ()),
        *((grpc.StatusCode.INVALID_ARGUMENT,) if case.thing == "source" else ()),
    )
    assert everything_of(inside, owner) == before


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.service != "Tenants" and case.thing != "source"], ids=str
)
def test_the_owner_is_not_refused_so(case: Case, owner: Side, inside: Caller) -> None:
    """What the cases ask for is there: without this, a typing error in one would look like a wall."""
    if case.method in {"CancelJob", "DeleteJob", "DeleteDataset", "SubmitTraining", "SubmitBatchInference"}:
        return
    # A training that has succeeded has nothing to try again, and no files.
    if case.method in {"RetryJob", "DownloadResult"}:
        code, _, _ = answered(inside, case.service, case.method, case.request(getattr(owner, case.thing)))
        assert code in (grpc.StatusCode.OK, grpc.StatusCode.FAILED_PRECONDITION)
        return
    request = case.request(getattr(owner, case.thing))
    if getattr(request, "alias", ""):
        return
    answer = inside.call(case.service, case.method, request)
    if case.method == "WatchJob":
        assert next(answer) is not None
        answer.cancel()


def test_a_batch_with_ones_own_model_reaches_no_dataset_of_another(
    owner: Side, intruder: Side, outside: Caller
) -> None:
    for theirs in (owner.dataset, owner.dataset_name):
        answers = []
        for dataset in (theirs, no_ones := like(theirs)):
            spec = jobs_pb2.BatchInferenceSpec(model=intruder.model, dataset=dataset)
            request = jobs_pb2.ValidateBatchInferenceRequest(spec=spec)
            answers.append(answered(outside, "Jobs", "ValidateBatchInference", request))
        (code, message, _), (_, of_no_one, _) = answers
        assert code is grpc.StatusCode.NOT_FOUND
        assert message == of_no_one.replace(no_ones, theirs)


def test_lists_show_nothing_of_another(owner: Side, intruder: Side, outside: Caller) -> None:
    jobs = outside.jobs("ListJobs", jobs_pb2.ListJobsRequest())
    assert [job.id for job in jobs.jobs] == [intruder.job]
    assert sum(count.count for count in jobs.counts) == 1
    datasets = outside.datasets("ListDatasets", datasets_pb2.ListDatasetsRequest())
    assert ([dataset.id for dataset in datasets.datasets], datasets.total_count) == ([intruder.dataset], 1)
    assert [model.name for model in outside.models("ListModels", models_pb2.ListModelsRequest()).models] == [
        intruder.model
    ]
    keys = outside.tenants("ListApiKeys", tenants_pb2.ListApiKeysRequest(include_inactive=True))
    assert {key.tenant for key in keys.keys} == {intruder.slug}
    # Filters that would select another's.
    filters = [
        jobs_pb2.JobFilter(name=owner.model),
        jobs_pb2.JobFilter(labels={"of": owner.slug}),
        jobs_pb2.JobFilter(states=[jobs_pb2.JOB_STATE_RUNNING]),
    ]
    for filter in filters:
        found = outside.jobs("ListJobs", jobs_pb2.ListJobsRequest(filter=filter))
        assert not found.jobs
    for asked in (
        datasets_pb2.ListDatasetsRequest(name=owner.dataset_name),
        datasets_pb2.ListDatasetsRequest(labels={"of": owner.slug}),
    ):
        found = outside.datasets("ListDatasets", asked)
        assert (list(found.datasets), found.total_count) == ([], 0)
    assert not outside.models("ListModels", models_pb2.ListModelsRequest(name=owner.model)).models
    code, _, _ = answered(outside, "Tenants", "ListTenants", tenants_pb2.ListTenantsRequest())
    assert code is grpc.StatusCode.PERMISSION_DENIED


def test_a_page_token_of_another_leads_nowhere(intruder: Side, inside: Caller, outside: Caller) -> None:
    upload = inside.datasets("UploadDataset", upload_parts(f"more-{secrets.token_hex(4)}", CSV + b"1,1,y\n"))
    try:
        token = inside.datasets("ListDatasets", datasets_pb2.ListDatasetsRequest(page_size=1)).next_page_token
        jobs_token = inside.jobs("ListJobs", jobs_pb2.ListJobsRequest(page_size=1)).next_page_token
        assert token
        assert jobs_token
        for service, method, request in (
            ("Datasets", "ListDatasets", datasets_pb2.ListDatasetsRequest(page_size=1, page_token=token)),
            ("Jobs", "ListJobs", jobs_pb2.ListJobsRequest(page_size=1, page_token=jobs_token)),
        ):
            code, _, _ = answered(outside, service, method, request)
            if code is not grpc.StatusCode.INVALID_ARGUMENT:
                page = outside.call(service, method, request)
                shown = getattr(page, "datasets", None) or getattr(page, "jobs", [])
                assert {one.id for one in shown} <= {intruder.dataset, intruder.job}
    finally:
        inside.datasets("DeleteDataset", datasets_pb2.DeleteDatasetRequest(id=upload.dataset.id))


def test_a_cursor_opens_no_other_job(owner: Side, intruder: Side, outside: Caller) -> None:
    request = jobs_pb2.WatchJobRequest(job_id=owner.job, cursor=owner.cursor)
    assert answered(outside, "Jobs", "WatchJob", request)[0] is grpc.StatusCode.NOT_FOUND
    # It is a place in whatever history it is used on: here, the caller's own.
    events = list(outside.jobs("WatchJob", jobs_pb2.WatchJobRequest(job_id=intruder.job, cursor=owner.cursor)))
    assert [event.job.id for event in events if event.HasField("job")] == [intruder.job]


def test_the_same_bytes_of_two_tenants_know_nothing_of_each_other(
    stack: RunningStack, owner: Side, intruder: Side, inside: Caller, outside: Caller
) -> None:
    data = CSV + b"7,7,x\n"
    ours = inside.datasets("UploadDataset", upload_parts(f"same-{secrets.token_hex(4)}", data)).dataset
    theirs = outside.datasets("UploadDataset", upload_parts(f"also-{secrets.token_hex(4)}", data)).dataset
    # An id is a hash of the contents; what is behind it is each tenant's own.
    assert theirs.id == ours.id
    assert theirs.name != ours.name
    stored = [stack.directory / "storage" / names.blob_key(side.slug, ours.sha256) for side in (owner, intruder)]
    assert all(path.read_bytes() == data for path in stored)
    outside.datasets("DeleteDataset", datasets_pb2.DeleteDatasetRequest(id=theirs.id))
    assert [path.exists() for path in stored] == [True, False]
    kept = inside.datasets("GetDataset", datasets_pb2.GetDatasetRequest(dataset=ours.id)).dataset
    assert kept.name == ours.name
    inside.datasets("DeleteDataset", datasets_pb2.DeleteDatasetRequest(id=ours.id))


def test_the_same_request_id_of_two_tenants_is_two_jobs(owner: Side, intruder: Side, stack: RunningStack) -> None:
    with stack.client(intruder.key) as client:
        own = client.train(None, intruder.dataset, target="level", request_id=owner.job)
        assert own.job.dataset_id == intruder.dataset
        own.wait(timeout=WAIT_SECONDS)
        own.delete()
    with stack.client(owner.key) as client:
        assert client.jobs.get(owner.job).dataset_id == owner.dataset


# --- places ------------------------------------------------------------------------------------


def test_a_dataset_is_registered_from_the_tenants_own_place_only(
    stack: RunningStack, owner: Side, intruder: Side
) -> None:
    imports, storage = stack.directory / "imports", stack.directory / "storage"
    mine = imports / intruder.slug
    blob = next((storage / names.tenant_prefix(owner.slug)).rglob("blobs/*"))
    source = Path(owner.source)
    for link, target in {
        "file-link": source,
        "directory-link": source.parent,
        "blob-link": blob,
        "storage-link": storage,
        "root-link": Path("/"),
        "config-link": stack.directory / "stack.json",
    }.items():
        (mine / link).symlink_to(target)
    refused = [
        owner.source,
        source.as_uri(),
        blob.as_uri(),
        (stack.directory / "stack.json").as_uri(),
        (stack.directory / "gateway.sqlite").as_uri(),
        "/etc/passwd",
        "file:///etc/passwd",
        f"{mine}/../{owner.slug}/{source.name}",
        f"file://{mine}/%2e%2e/{owner.slug}/{source.name}",
        f"file://{mine}/..%2f{owner.slug}/{source.name}",
        f"{mine}/./../../storage",
        f"{mine}/file-link",
        f"{mine}/directory-link/{source.name}",
        f"{mine}/blob-link",
        f"{mine}/storage-link/{blob.relative_to(storage)}",
        f"{mine}/root-link/etc/passwd",
        f"{mine}/config-link",
        f"{mine}",
        f"{mine}-other/x.csv",
        "http://127.0.0.1/x.csv",
        f"local://{owner.source}",
        f"simplecache::file://{owner.source}",
        "s3://bucket/x.csv",
        f"memory://{owner.source}",
    ]
    with stack.client(intruder.key) as client:
        before = [dataset.id for dataset in client.datasets.list()]
        for uri in refused:
            with pytest.raises(errors.InvalidRequest) as caught:
                client.datasets.register(uri)
            assert set(caught.value.violations) == {"uri"}, uri
            # Names only what the caller sent, and the own place.
            assert owner.slug not in caught.value.message.replace(uri, ""), uri
        assert [dataset.id for dataset in client.datasets.list()] == before
        own = client.datasets.register(Path(intruder.source).as_uri(), name="own")
        assert own.profile.rows == 80
        client.datasets.delete(own)


def test_mlflow_keeps_the_tenants_accounts_apart(stack: RunningStack, owner: Side, intruder: Side) -> None:
    secret = stack.config.secret_key
    own = Account.of_tenant(secret, intruder.slug)
    foreign = Account(user=own.user, password=own.password, workspace=owner.slug)
    api, files = "/api/2.0/mlflow", "/api/2.0/mlflow-artifacts/artifacts"
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", f"{api}/runs/get", {"params": {"run_id": owner.run}}),
        ("GET", f"{api}/experiments/get", {"params": {"experiment_id": owner.experiment}}),
        ("POST", f"{api}/runs/delete", {"json": {"run_id": owner.run}}),
        ("GET", f"{api}/registered-models/get", {"params": {"name": owner.model}}),
        ("DELETE", f"{api}/registered-models/delete", {"json": {"name": owner.model}}),
        ("GET", f"{api}/model-versions/get", {"params": {"name": owner.model, "version": "1"}}),
        ("GET", files, {"params": {"path": f"workspaces/{owner.slug}/{owner.experiment}/{owner.run}/artifacts"}}),
    ]
    with httpx.Client(base_url=stack.mlflow_url, trust_env=False, timeout=60.0) as client:
        for method, path, what in calls:
            assert client.request(method, path, headers=foreign.headers(), **what).status_code == 403, path
            answer = client.request(method, path, headers=own.headers(), **what)
            assert answer.status_code in (400, 403, 404), (path, answer.text)
            assert client.request(method, path, **what).status_code == 401, path
        theirs = Account.of_tenant(secret, owner.slug)
        answer = client.get(f"{api}/runs/get", params={"run_id": owner.run}, headers=theirs.headers())
        assert answer.json()["run"]["info"]["status"] == "FINISHED"
        answer = client.get(f"{api}/registered-models/search", headers=own.headers())
        assert [model["name"] for model in answer.json()["registered_models"]] == [intruder.model]


def test_a_deleted_tenants_key_opens_nothing_and_its_neighbours_lose_nothing(
    stack: RunningStack, owner: Side, inside: Caller, channel: grpc.Channel, until: Callable[..., None]
) -> None:
    before = everything_of(inside, owner)
    slug, key = stack.new_tenant()
    with stack.client(key) as client, stack.admin() as admin:
        client.datasets.upload(Path(owner.source), name="short-lived")
        admin.tenants.delete(slug)
        assert slug not in {tenant.slug for tenant in admin.tenants.list() if tenant.state is TenantState.ACTIVE}

    late = Caller(channel, key)
    until(lambda: answered(late, "Jobs", "ListJobs", jobs_pb2.ListJobsRequest())[0] is grpc.StatusCode.UNAUTHENTICATED)
    assert not (stack.directory / "storage" / names.tenant_prefix(slug)).exists()
    assert everything_of(inside, owner) == before
