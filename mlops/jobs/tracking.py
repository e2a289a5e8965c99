"""What a training workflow keeps of its MLflow run: ids only."""

from __future__ import annotations

from enum import StrEnum

from mlops.jobs.training import StepOrder
from mlops.jobs.value import Value


class RunStatus(StrEnum):
    """How an MLflow run ended, in MLflow's words."""

    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class StartedRun(Value):
    """The job's MLflow run."""

    run_id: str
    experiment_id: str


class LoggedModel(Value):
    """The model among the run's outputs."""

    model_id: str
    # models:/m-…
    uri: str


class RegisteredVersion(Value):
    """A version of a registered model."""

    model_name: str
    version: int


class RegisterOrder(Value):
    """Which logged model to register."""

    order: StepOrder
    run_id: str
    model: LoggedModel


class EndedRun(Value):
    """How to end a job's run. A job that did not succeed leaves no version behind."""

    tenant: str
    job_id: str
    status: RunStatus
    # Looked up by the job's id where the job never learnt it.
    run_id: str | None = None
    model_name: str | None = None
    message: str = ""
