"""The gateway's only use of Temporal: jobs are workflows in the tenant's namespace."""

from mlops.gateway.scheduler.scheduler import Scheduler

__all__ = ["Scheduler"]
