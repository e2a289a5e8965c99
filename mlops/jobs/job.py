"""A job as its owner sees it: state, progress, events, failure."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field

from mlops.jobs.inference import BatchInferencePlan, BatchResult
from mlops.jobs.report import TrainingResult
from mlops.jobs.training import TrainingPlan
from mlops.jobs.value import SearchText, Value


class JobKind(StrEnum):
    """What a job does."""

    TRAINING = "training"
    BATCH_INFERENCE = "batch_inference"


class JobState(StrEnum):
    """Where a job stands. The last three are final."""

    QUEUED = "queued"  # accepted, no worker has taken it up yet
    RUNNING = "running"  # at work, or waiting for a core between two steps
    CANCELLING = "cancelling"  # asked to stop; undoing what it began
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class StepState(StrEnum):
    """Where one step of a job stands."""

    SCHEDULED = "scheduled"  # no worker has taken it up
    WAITING = "waiting"  # on a host, waiting for a free core
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StepProgress(Value):
    """How far one step is. Travels as the heartbeat's details."""

    step: str
    state: StepState
    # 0 to 1, or None where the estimator gives no sign of how far it is.
    fraction: float | None = Field(default=None, ge=0.0, le=1.0)
    # "tree 30 of 100", say.
    message: str = ""
    # Numbers of the moment: {"loss": 0.31}.
    values: dict[str, float] = Field(default_factory=dict)
    # Which try of the step this is, from 1.
    attempt: int = 1


class JobFailure(Value):
    """Why a job failed, for a data scientist."""

    step: str
    # A reason of mlops.errors: FIT_FAILED, MEMORY_LIMIT_EXCEEDED, …
    reason: str
    # The class of the original exception (ValueError), where there was one.
    error_class: str = ""
    message: str
    # What to try.
    hint: str = ""


class Job(Value):
    """A job of a tenant."""

    id: str
    kind: JobKind
    name: str
    owner: str
    labels: dict[str, str] = Field(default_factory=dict)
    state: JobState
    created_at: datetime
    finished_at: datetime | None = None
    dataset_id: str = ""
    model_name: str | None = None
    # In lists these stay empty; GetJob fills them.
    plan: TrainingPlan | None = None
    steps: tuple[StepProgress, ...] = ()
    result: TrainingResult | None = None
    failure: JobFailure | None = None
    batch_plan: BatchInferencePlan | None = None
    batch_result: BatchResult | None = None
    # How often it was started: 1, and one more for each retry.
    attempt: int = 1


class JobSummary(Value):
    """What the memo of the workflow holds, for lists."""

    kind: JobKind
    name: str
    owner: str
    labels: dict[str, str]
    dataset_id: str
    model_name: str | None
    attempt: int = 1


class JobEvent(Value):
    """One thing that happened to a job. Exactly one of the last four fields is set.

    cursor: hand it back to go on behind this event. Numbers inside a step are not part of the history:
    they carry the cursor of the last event before them.
    """

    cursor: str
    time: datetime
    state: JobState | None = None
    step: StepProgress | None = None
    # Metrics of a step that ended, by scorer name; `metrics_step` names the step.
    metrics: dict[str, float] | None = None
    metrics_step: str = ""
    # The whole job: the last event of every watch.
    job: Job | None = None


class JobFilter(Value):
    """What ListJobs selects; everything given must hold."""

    states: tuple[JobState, ...] = ()
    kinds: tuple[JobKind, ...] = ()
    # Exact, or a prefix with a trailing "*".
    name: SearchText = ""
    owner: SearchText = ""
    labels: dict[SearchText, SearchText] = Field(default_factory=dict)
    created_after: datetime | None = None
    created_before: datetime | None = None


class JobPage(Value):
    """One page of jobs, newest first. `counts` covers everything that the filter (less its states) selects."""

    jobs: tuple[Job, ...]
    next_page_token: str = ""
    counts: dict[JobState, int] = Field(default_factory=dict)


class Validated(Value):
    """The answer of a dry run."""

    plan: TrainingPlan
    # Steps in the order in which they are started.
    steps: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def steps_of(plan: TrainingPlan) -> tuple[str, ...]:
    """The names of the CPU steps of a plan. The final fit is the longest, so it comes first."""
    from mlops import names

    return (names.FIT_STEP, *(names.fold_step(i) for i in range(plan.folds)), names.EVALUATE_STEP)
