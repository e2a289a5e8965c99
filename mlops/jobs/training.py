"""What a training job asks for, and the plan that it is resolved to."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import Field

from mlops.jobs.dataset import Column
from mlops.jobs.estimator import EstimatorSpec
from mlops.jobs.value import SearchText, Value

GIB = 1024**3


class Task(StrEnum):
    """What is predicted."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Splitter(StrEnum):
    """How rows are kept apart, for the hold-out and for the folds alike."""

    SHUFFLED = "shuffled"
    STRATIFIED = "stratified"  # the target's classes keep their shares
    GROUPED = "grouped"  # rows of one group stay together
    TIME_SERIES = "time_series"  # training rows are always earlier than the rows they are judged on


class Validation(Value):
    """How the model is judged. Hold-out and folds go together: the folds are made of the training part.

    folds: 0 for none, else 2-50. holdout_fraction: 0 for none; None means 0.2 without folds and 0 with them.
    splitter: None means stratified for classification, grouped or time_series where their column is
    given, else shuffled.
    """

    folds: int = Field(default=0, ge=0, le=50)
    holdout_fraction: float | None = Field(default=None, ge=0.0, lt=1.0)
    splitter: Splitter | None = None


class Resources(Value):
    """What each step of a job gets: whole cores, and the memory its process may hold of its own."""

    cpus: int = Field(default=1, ge=1, le=1024)
    memory_bytes: int = Field(default=2 * GIB, ge=64 * 1024**2)


class TrainingSpec(Value):
    """What a data scientist asks for."""

    # An id, or a name (the newest dataset of that name).
    dataset: str = Field(min_length=1, max_length=200)
    target: str = Field(min_length=1, max_length=500)
    # What the job is called in lists; the model's or the estimator's name where it is left out.
    name: SearchText | None = Field(default=None, max_length=200)
    # Left out: a preprocessing pipeline and gradient boosting, chosen from the column types.
    estimator: EstimatorSpec | None = None
    # Left out: from the estimator, else from the target column.
    task: Task | None = None
    # Left out: every column that has no other role.
    features: tuple[str, ...] = Field(default=(), max_length=20_000)
    weight_column: str | None = None
    group_column: str | None = None
    time_column: str | None = None
    validation: Validation = Validation()
    # scikit-learn's scorer names. Left out: sensible ones for the task; the first one is the main one.
    scoring: tuple[str, ...] = Field(default=(), max_length=20)
    seed: int = Field(default=0, ge=0, le=2**32 - 1)
    # Left out: the model is logged, but not registered.
    model_name: str | None = None
    resources: Resources = Resources()
    # How long each step may run once it has its cores.
    time_limit: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0), le=timedelta(days=7))
    # How often a step is tried when it failed for a passing reason (a crash, a service that is away).
    max_attempts: int = Field(default=3, ge=1, le=10)
    labels: dict[SearchText, SearchText] = Field(default_factory=dict, max_length=20)


class TrainingPlan(Value):
    """A spec resolved against its dataset: nothing is left to choose."""

    name: str
    dataset_id: str
    dataset_name: str
    dataset_sha256: str
    dataset_rows: int
    target: Column
    features: tuple[Column, ...]
    weight_column: str | None
    group_column: str | None
    time_column: str | None
    estimator: EstimatorSpec
    task: Task
    folds: int
    holdout_fraction: float
    splitter: Splitter
    scoring: tuple[str, ...]
    seed: int
    model_name: str | None
    resources: Resources
    time_limit: timedelta
    max_attempts: int
    labels: dict[str, str]


class TrainingJob(Value):
    """The training workflow's one argument: what it decides on. The plan itself is in storage, by reference."""

    tenant: str
    job_id: str
    owner: str
    # SHA-256 of the stored plan, in hex.
    plan_sha256: str
    folds: int
    time_limit: timedelta
    max_attempts: int
    model_name: str | None


class StepOrder(Value):
    """One activity of a training job. `fold` is the fold's index, or None for a step that is no fold's."""

    tenant: str
    job_id: str
    owner: str
    plan_sha256: str
    step: str
    fold: int | None = None


class StepTask(Value):
    """One step on the CPU queue. `fold` is the fold's index, or None for the final fit and the evaluation."""

    tenant: str
    job_id: str
    step: str
    plan: TrainingPlan
    fold: int | None = None
