"""One settings class a process. Every field is an environment variable: MLOPS_ and the field's name in capitals."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

GIB = 1024**3


CGROUP = Path("/sys/fs/cgroup")
# What jobs may have of the memory; the rest is for the system and the platform's own processes.
MEMORY_FOR_JOBS = 0.8


def machine_cores() -> int:
    """Cores that this process may use: of the machine, its affinity and its container the fewest."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    quota, _, period = _cgroup("cpu.max").partition(" ")
    return max(1, min(cores, int(quota) // int(period))) if quota.isdigit() and period.isdigit() else cores


def memory_for_jobs_bytes() -> int:
    """Four fifths of the memory of this machine, or of its container where that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _cgroup("memory.max")
    return int(MEMORY_FOR_JOBS * (min(physical, int(limit)) if limit.isdigit() else physical))


def _cgroup(name: str) -> str:
    """A limit of the container (cgroup version 2); "" or "max" where there is none."""
    file = CGROUP / name
    return file.read_text().strip() if file.exists() else ""


class _Process(BaseSettings):
    """What every process of the platform needs."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", frozen=True)

    temporal_address: str = Field(default="127.0.0.1:7233", description="host:port of Temporal's frontend")
    storage_url: str = Field(
        description="fsspec URL below which everything is stored: file:///srv/mlops, s3://bucket/x"
    )
    storage_options: dict[str, Any] = Field(
        default_factory=dict, description="JSON handed to fsspec: endpoint_url, key, secret, …"
    )
    log_format: str = Field(default="json", pattern="^(json|console)$", description="json for machines, or console")
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")


class _Tracking(BaseSettings):
    """How to reach MLflow."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", frozen=True)

    mlflow_url: str = Field(default="http://127.0.0.1:5000", description="the MLflow server")
    secret_key: SecretStr = Field(
        min_length=32, description="the platform's secret: tenants' MLflow passwords are derived from it"
    )


class GatewaySettings(_Process, _Tracking):
    """The gateway."""

    listen: str = Field(default="127.0.0.1:7300", description="host:port to serve gRPC on")
    database_url: str = Field(description="SQLAlchemy URL: sqlite+aiosqlite:///path, postgresql+psycopg://…")
    mlflow_admin_user: str = "admin"
    mlflow_admin_password: SecretStr
    bootstrap_admin_key: SecretStr | None = Field(
        default=None, description="an administrator's whole API key, created at start where it is missing"
    )
    source_roots: tuple[str, ...] = Field(
        default=(), description="URL prefixes that RegisterDataset may read; {tenant} stands for the caller's slug"
    )
    source_options: dict[str, Any] = Field(default_factory=dict, description="JSON handed to fsspec for the sources")
    largest_host_cpus: int = Field(default_factory=machine_cores, ge=1, description="cores of the largest CPU host")
    largest_host_memory_bytes: int = Field(
        default_factory=memory_for_jobs_bytes, ge=1, description="memory for jobs on the largest CPU host"
    )
    retention: timedelta = Field(default=timedelta(days=30), ge=timedelta(days=1), description="how long jobs are kept")
    serving_targets: tuple[str, ...] = Field(
        default=("127.0.0.1:7310",), description="host:port of the serving hosts; all addresses of a name are used"
    )
    predict_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="for predictions whose caller names no deadline"
    )
    shutdown_grace: timedelta = timedelta(seconds=10)


class IoWorkerSettings(_Process, _Tracking):
    """The worker that runs workflows and talks to storage and MLflow."""

    source_roots: tuple[str, ...] = Field(default=(), description="as for the gateway")
    source_options: dict[str, Any] = Field(default_factory=dict, description="as for the gateway")
    tenant_poll: timedelta = Field(default=timedelta(seconds=1), description="how often new tenants are looked for")
    shutdown_grace: timedelta = timedelta(seconds=10)


class CpuWorkerSettings(_Process):
    """The worker that owns the process pool."""

    cores: int = Field(default_factory=machine_cores, ge=1, description="cores given to jobs")
    memory_bytes: int = Field(default_factory=memory_for_jobs_bytes, ge=1, description="memory given to jobs")
    scratch_dir: Path = Field(description="a directory of this host for cached datasets and work files")
    cache_bytes: int = Field(default=20 * GIB, ge=0, description="how much of the data cache is kept")
    stop_grace: timedelta = Field(
        default=timedelta(milliseconds=300), description="how long a cancelled child may take before it is killed"
    )
    tenant_poll: timedelta = Field(default=timedelta(seconds=1), description="how often new tenants are looked for")
    shutdown_grace: timedelta = timedelta(seconds=10)


class ServingSettings(_Process):
    """A serving host: answers predictions, with children that hold the models."""

    listen: str = Field(default="127.0.0.1:7310", description="host:port that gateways send predictions to")
    health_listen: str = Field(default="127.0.0.1:7311", description="host:port of the gRPC health service")
    scratch_dir: Path = Field(description="a directory of this host for cached model files")
    cache_bytes: int = Field(default=20 * GIB, ge=0, description="how much of the cached files is kept")
    memory_bytes: int = Field(
        default_factory=lambda: memory_for_jobs_bytes() // 2, ge=1, description="what all children together may hold"
    )
    child_memory_bytes: int = Field(default=4 * GIB, ge=1, description="what one child may hold before it is killed")
    model_cache_bytes: int = Field(default=2 * GIB, ge=0, description="models that one child keeps loaded")
    max_children: int = Field(default_factory=machine_cores, ge=1, description="children of one tenant at a time")
    child_idle: timedelta = Field(default=timedelta(minutes=10), description="a child that long without work is ended")
    max_batch_rows: int = Field(default=1024, ge=1, description="rows that are predicted together")
    max_batch_delay: timedelta = Field(
        default=timedelta(milliseconds=5),
        description="how long a request waits for a busy child that holds its model before another child takes it",
    )
    max_queued_per_model: int = Field(default=256, ge=1, description="requests of one model that wait; more are shed")
    max_queued: int = Field(default=2048, ge=1, description="requests that wait in all; more are shed")
    predict_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0), description="a child that predicts longer is killed"
    )
    shutdown_grace: timedelta = timedelta(seconds=10)
