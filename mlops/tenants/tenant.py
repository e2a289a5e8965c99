"""A tenant, its quota and its API keys, as data."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from mlops.jobs.training import GIB
from mlops.jobs.value import Value


class TenantState(StrEnum):
    """Where a tenant stands. Only an active one is served."""

    PROVISIONING = "provisioning"  # being set up; the same call again goes on where it stopped
    ACTIVE = "active"
    DELETING = "deleting"  # being taken down; the same call again goes on where it stopped


class Role(StrEnum):
    """What a key may do. Each of the first three includes the one before it."""

    VIEWER = "viewer"  # reads
    SUBMITTER = "submitter"  # and submits, cancels and deletes jobs and datasets
    OWNER = "owner"  # and manages the tenant's own keys
    ADMINISTRATOR = "administrator"  # the platform's: manages tenants, and belongs to none


class Quota(Value):
    """What a tenant may use."""

    # Jobs that have not ended.
    max_active_jobs: int = Field(default=1000, ge=0)
    # Of one step of one job.
    max_job_cpus: int = Field(default=64, ge=1)
    max_job_memory_bytes: int = Field(default=256 * GIB, ge=64 * 1024**2)
    # Of one dataset, as uploaded.
    max_dataset_bytes: int = Field(default=100 * GIB, ge=1)
    # Online predictions, each gateway counting for itself.
    max_concurrent_predictions: int = Field(default=256, ge=0)
    max_predictions_per_second: int = Field(default=10_000, ge=1)


class Tenant(Value):
    """A team that shares the machines. `slug` names its namespace, workspace and storage prefix."""

    slug: str
    display_name: str = ""
    state: TenantState
    quota: Quota = Quota()
    # Its share of the cores against the other tenants'.
    weight: float = Field(default=1.0, gt=0, le=1000)
    created_at: datetime
    labels: dict[str, str] = Field(default_factory=dict)


class NewTenant(Value):
    """What is asked for when a tenant is created."""

    slug: str
    display_name: str = ""
    quota: Quota = Quota()
    weight: float = Field(default=1.0, gt=0, le=1000)
    labels: dict[str, str] = Field(default_factory=dict)


class ApiKey(Value):
    """An API key, without its secret. `tenant` is None for an administrator's."""

    id: str
    tenant: str | None
    role: Role
    # Who or what it is for: becomes the owner of the jobs it submits.
    name: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class IssuedKey(Value):
    """A new key with its secret, which is shown this once."""

    key: ApiKey
    secret: str


class Principal(Value):
    """Who makes a call."""

    key_id: str
    name: str
    role: Role
    tenant: str | None
