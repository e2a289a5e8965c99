"""The most that a job may ask for, and whose limit that is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one step of one job may have: the smaller of the tenant's quota and of the largest host."""

    max_cpus: int
    max_memory_bytes: int
    # What sets the bound: max_job_cpus for the tenant's quota, largest_host_cpus for the machines.
    cpus_limit: str = "max_job_cpus"
    memory_limit: str = "max_job_memory_bytes"
