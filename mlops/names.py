"""Builds and parses every identifier: namespaces, task queues, workflow ids, storage keys, MLflow names.

Nothing else in the package concatenates one.
"""

from __future__ import annotations

import hashlib
import re
import secrets

# --- tenants -----------------------------------------------------------------------------------

# MLflow's rule for workspaces is the narrowest of the three places that a slug has to fit into.
TENANT = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])\Z")
RESERVED_TENANTS = frozenset({"default", "temporal-system", "platform", "admin"})


def is_tenant(text: str) -> bool:
    """Whether a slug may name a tenant: 2-63 of a-z, 0-9 and inner hyphens, and not reserved."""
    return bool(TENANT.fullmatch(text)) and text not in RESERVED_TENANTS


def namespace(tenant: str) -> str:
    """The tenant's Temporal namespace."""
    return tenant


def tenant_of_namespace(name: str) -> str:
    """The inverse of `namespace`."""
    return name


# The key of the namespace's data map that marks it as one of ours, so that workers find their tenants.
NAMESPACE_MARK = "mlops.managed"
NAMESPACE_WEIGHT = "mlops.weight"

# --- Temporal ----------------------------------------------------------------------------------

CPU_QUEUE = "cpu"
IO_QUEUE = "io"

# Keyword search attributes, registered in every tenant's namespace (10 at most on SQLite).
ATTRIBUTE_KIND = "MlopsKind"
ATTRIBUTE_STATE = "MlopsState"
ATTRIBUTE_NAME = "MlopsName"
ATTRIBUTE_OWNER = "MlopsOwner"
ATTRIBUTE_DATASET = "MlopsDataset"
ATTRIBUTE_MODEL = "MlopsModel"
# Keyword list: "key=value" for each label.
ATTRIBUTE_LABELS = "MlopsLabels"
KEYWORD_ATTRIBUTES = (
    ATTRIBUTE_KIND,
    ATTRIBUTE_STATE,
    ATTRIBUTE_NAME,
    ATTRIBUTE_OWNER,
    ATTRIBUTE_DATASET,
    ATTRIBUTE_MODEL,
)

MEMO_JOB = "job"
MEMO_FINGERPRINT = "fingerprint"
MEMO_PLAN = "plan"

# --- jobs --------------------------------------------------------------------------------------

# A job id is the client's request id, and the workflow id.
JOB_ID = re.compile(r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


def new_job_id(kind: str) -> str:
    """A fresh request id for a client that brings none: train-5f2c9e…"""
    return f"{kind}-{secrets.token_hex(8)}"


def label(key: str, value: str) -> str:
    """A label as one search term."""
    return f"{key}={value}"


def fold_step(index: int) -> str:
    """The step that fits fold `index` (from 0)."""
    return f"fold-{index}"


FIT_STEP = "fit"
EVALUATE_STEP = "evaluate"
EXPORT_STEP = "export"
# Steps of the IO worker.
START_RUN_STEP = "start-run"
LOG_STEP = "log"
REGISTER_STEP = "register"
FINISH_STEP = "finish"
UNDO_STEP = "undo"
COPY_STEP = "copy"
INGEST_STEP = "ingest"


# Of a batch inference.
PLAN_STEP = "plan"
PREDICT_STEP = "predict"
SUMMARISE_STEP = "summarise"
COMMIT_STEP = "commit"


def shard_step(shard: int) -> str:
    """The step that predicts shard `shard` (from 0)."""
    return f"shard-{shard:05d}"


TRAINING_WORKFLOW = "Training"
BATCH_WORKFLOW = "BatchInference"
SHARDS_WORKFLOW = "Shards"
INGEST_WORKFLOW = "Ingest"


def shards_workflow(job: str) -> str:
    """The workflow that runs a batch job's shards. No job id looks like it, since those hold no colon."""
    return f"shards:{job}"


MEMO_SHARDS = "shards"


def ingest_workflow(source: str) -> str:
    """The workflow that reads a new dataset. No job id looks like it, since those hold no colon."""
    return f"ingest:{hashlib.sha256(source.encode()).hexdigest()[:32]}"


# --- datasets ----------------------------------------------------------------------------------

DATASET_ID = re.compile(r"^ds-[0-9a-f]{32}\Z")


def dataset_id(content_sha256: str, read_options: str) -> str:
    """The same bytes read in the same way are the same dataset. `read_options` is canonical JSON."""
    return "ds-" + hashlib.sha256(f"{content_sha256}\n{read_options}".encode()).hexdigest()[:32]


# --- storage keys, all below the tenant's prefix -------------------------------------------------


def tenant_prefix(tenant: str) -> str:
    """The prefix below which everything of a tenant is stored."""
    return f"tenants/{tenant}"


def blob_key(tenant: str, content_sha256: str) -> str:
    """Uploaded bytes, by their SHA-256."""
    return f"{tenant_prefix(tenant)}/blobs/{content_sha256}"


def staging_key(tenant: str, upload: str) -> str:
    """Bytes that are still arriving."""
    return f"{tenant_prefix(tenant)}/staging/{upload}"


PROFILE_FILE = "profile.json"


def dataset_key(tenant: str, dataset: str) -> str:
    """The dataset's canonical Arrow IPC file."""
    return f"{dataset_prefix(tenant, dataset)}/data.arrow"


def dataset_preview_key(tenant: str, dataset: str) -> str:
    """The dataset's first rows as text, in JSON."""
    return f"{dataset_prefix(tenant, dataset)}/preview.json"


def dataset_profile_key(tenant: str, dataset: str) -> str:
    """The dataset's profile, in JSON: the last file to be written, so that it marks the others as whole."""
    return f"{dataset_prefix(tenant, dataset)}/{PROFILE_FILE}"


def dataset_prefix(tenant: str, dataset: str) -> str:
    """Everything stored of a dataset, but the bytes it came from."""
    return f"{tenant_prefix(tenant)}/datasets/{dataset}"


def job_prefix(tenant: str, job: str) -> str:
    """Everything a job wrote."""
    return f"{tenant_prefix(tenant)}/jobs/{job}"


def request_key(tenant: str, job: str) -> str:
    """Notes the fingerprint of the request that took a job id; it outlives the job, so that an id means one request."""
    return f"{tenant_prefix(tenant)}/requests/{job}"


def plan_key(tenant: str, job: str, plan_sha256: str) -> str:
    """The job's plan, by its content: a request under the id of a running job replaces nothing."""
    return f"{job_prefix(tenant, job)}/plan-{plan_sha256[:32]}.json"


def step_prefix(tenant: str, job: str, step: str) -> str:
    """Everything that one step wrote."""
    return f"{job_prefix(tenant, job)}/{step}"


def step_key(tenant: str, job: str, step: str, file: str) -> str:
    """One file of one step: result.json, predictions.parquet, model.skops, plots/roc.png."""
    return f"{step_prefix(tenant, job, step)}/{file}"


def batch_input_prefix(tenant: str, job: str) -> str:
    """What a batch job took from its URI: gone once the result is committed."""
    return f"{job_prefix(tenant, job)}/input"


def batch_input_key(tenant: str, job: str, plan_sha256: str) -> str:
    """The file at the URI, as it was. By the plan too: a host's cache may outlive a tenant, whose slug another takes."""
    return f"{batch_input_prefix(tenant, job)}/{plan_sha256[:32]}/source"


def batch_data_key(tenant: str, job: str, plan_sha256: str) -> str:
    """The canonical Arrow file of an input whose format has no types."""
    return f"{batch_input_prefix(tenant, job)}/{plan_sha256[:32]}/data.arrow"


def shard_list_key(tenant: str, job: str) -> str:
    """The shards of a batch job, planned once."""
    return f"{job_prefix(tenant, job)}/shards.json"


def shard_result_key(tenant: str, job: str, shard: int) -> str:
    """What a finished shard found: the last of its files to be written."""
    return f"{job_prefix(tenant, job)}/shards/{shard:05d}.json"


def result_prefix(tenant: str, job: str) -> str:
    """The folder of a batch job's result."""
    return f"{job_prefix(tenant, job)}/result"


def result_file(shard: int, suffix: str) -> str:
    """A shard's predictions in the folder of the result."""
    return f"part-{shard:05d}.{suffix}"


def rejects_file(shard: int) -> str:
    """A shard's rejected rows in the folder of the result."""
    return f"rejects-{shard:05d}.parquet"


MANIFEST_FILE = "manifest.json"

# --- models as the platform keeps them, to predict with ------------------------------------------


# As MLflow gives them.
LOGGED_MODEL_ID = re.compile(r"^m-[0-9a-f]{8,64}\Z")
# What a model's files are stored under: the same, or a hash of where they came from.
MODEL_ID = re.compile(r"^[mx]-[0-9a-f]{8,64}\Z")


def model_prefix(tenant: str, model_id: str) -> str:
    """The files of one model: they never change."""
    return f"{tenant_prefix(tenant)}/models/{model_id}"


def model_key(tenant: str, model_id: str, file: str) -> str:
    """One file of a model: model.skops, model.onnx, onnx.json, and card.json, the last to be written."""
    return f"{model_prefix(tenant, model_id)}/{file}"


CARD_FILE = "card.json"
ONNX_FILE = "model.onnx"
ONNX_NOTES_FILE = "onnx.json"

STEP_RESULT = "result.json"
STEP_PREDICTIONS = "predictions.parquet"
STEP_MODEL = "model.skops"
STEP_EXAMPLE = "input_example.json"
STEP_REPORT = "report.json"
STEP_NOTES = "model.json"
STEP_IMPORTANCES = "importances.json"

# --- MLflow ------------------------------------------------------------------------------------

MODEL_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._ -]{0,126}[A-Za-z0-9])?\Z")

TAG_JOB = "mlops.job_id"
TAG_TENANT = "mlops.tenant"
TAG_OWNER = "mlops.owner"
TAG_DATASET = "mlops.dataset_id"
TAG_DATASET_SHA256 = "mlops.dataset_sha256"
TAG_TASK = "mlops.task"
TAG_ESTIMATOR = "mlops.estimator"
TAG_VERSIONS = "mlops.versions"
# Size of a model's files in bytes.
TAG_MODEL_BYTES = "mlops.model_bytes"
# Marks the one run of a job among those that racing writers may have made.
TAG_CLAIMED = "mlops.claimed"
# Why a run ended as it did.
TAG_MESSAGE = "mlops.message"
# The MLflow role, one a workspace, that the tenant's service account holds.
SERVICE_ROLE = "mlops-service"


def workspace(tenant: str) -> str:
    """The tenant's MLflow workspace."""
    return tenant


def service_account(tenant: str) -> str:
    """The MLflow user that acts for the tenant."""
    return f"svc-{tenant}"


def experiment(model_name: str | None) -> str:
    """Runs of one registered model stand together; those without one in `training`."""
    return model_name or "training"


def withdrawn_model(model_name: str, job: str) -> str:
    """Where an empty registered model is moved to before it is deleted: MODEL_NAME never holds a tilde."""
    return f"{model_name}~{job}"


_NOT_IN_METRICS = re.compile(r"[^\w.\- :/]", re.ASCII)


def metric(text: str) -> str:
    """A metric's or a parameter's name as MLflow takes it: at most 250 of letters, digits and `_-. :/`.

    Slashes group names, as in a path: none at the ends, no empty parts, no `.` and `..`.
    """
    parts = (part for part in _NOT_IN_METRICS.sub("_", text)[:250].split("/") if part)
    return "/".join("_" if part in (".", "..") else part for part in parts) or "_"


# --- API keys ----------------------------------------------------------------------------------

API_KEY = re.compile(r"^mlops_([a-z0-9]{12})_([A-Za-z0-9_-]{43})\Z")


def new_api_key() -> tuple[str, str, str]:
    """(id, secret, key): the id is public, the secret 256 random bits, the key both."""
    identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return identity, secret, f"mlops_{identity}_{secret}"


def parse_api_key(key: str) -> tuple[str, str] | None:
    """(id, secret), or None where the text is no API key."""
    match = API_KEY.match(key)
    return (match[1], match[2]) if match else None
