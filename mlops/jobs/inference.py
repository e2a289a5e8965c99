"""What a batch inference asks for, the plan that it is resolved to, and what it ends with."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from mlops.jobs.card import Engine, PredictMethod
from mlops.jobs.dataset import ReadOptions
from mlops.jobs.training import Resources
from mlops.jobs.value import SearchText, Value

MAX_CARRIED = 2000
# Each shard leaves a file, and a line in the report.
MAX_SHARDS = 20_000
# In `carry`: every column of the input.
ALL_COLUMNS = "*"


class OutputFormat(StrEnum):
    """How the results are laid out, a file a shard."""

    PARQUET = "parquet"
    ARROW = "arrow"  # Arrow IPC files
    CSV = "csv"
    JSONL = "jsonl"


class OnBadRow(StrEnum):
    """What is done with a row that cannot be predicted."""

    FAIL = "fail"  # the job fails, naming the row
    REJECT = "reject"  # it goes to the rejects, with the reason


class BatchInferenceSpec(Value):
    """What a data scientist asks for. Of `version` and `alias` at most one, of `dataset` and `uri` exactly one."""

    model: str = Field(min_length=1, max_length=200)
    # Neither: the champion where the model has one, else the newest version.
    version: int | None = Field(default=None, ge=1)
    alias: str | None = Field(default=None, min_length=1, max_length=255)
    # An id, or a name (the newest dataset of that name).
    dataset: str | None = Field(default=None, min_length=1, max_length=200)
    # A file below a place that the operator allows; it may be far larger than memory.
    uri: str | None = Field(default=None, min_length=1, max_length=2000)
    # How to read what is at the URI.
    read_options: ReadOptions = ReadOptions()
    # What the job is called in lists; the model's name where it is left out.
    name: SearchText | None = Field(default=None, max_length=200)
    outputs: tuple[PredictMethod, ...] = Field(default=(PredictMethod.PREDICT,), max_length=3)
    # Columns of the input that stand in the output too; "*" for all of them.
    carry: tuple[str, ...] = Field(default=(), max_length=MAX_CARRIED)
    output_format: OutputFormat = OutputFormat.PARQUET
    # Left out: chosen from the file's own parts and the number of columns.
    rows_per_shard: int | None = Field(default=None, ge=1, le=50_000_000)
    on_bad_row: OnBadRow = OnBadRow.FAIL
    # With REJECT: more than this fail the job. Left out: no limit.
    max_rejects: int | None = Field(default=None, ge=0)
    # Score the predictions against this column.
    target: str | None = Field(default=None, min_length=1, max_length=500)
    # Of each shard's process.
    resources: Resources = Resources()
    # How long each shard may run once it has its cores.
    time_limit: timedelta = Field(default=timedelta(hours=1), gt=timedelta(0), le=timedelta(days=7))
    max_attempts: int = Field(default=3, ge=1, le=10)
    labels: dict[SearchText, SearchText] = Field(default_factory=dict, max_length=20)


class BatchInferencePlan(Value):
    """A spec resolved against its model and its input: nothing is left to choose but the shards of a URI."""

    name: str
    model_name: str
    model_version: int
    # What the version was found by, if it was an alias.
    model_alias: str | None
    # Where the model's files are in the platform's own storage.
    model_id: str
    # None for a URI.
    dataset_id: str | None
    dataset_name: str
    uri: str | None
    read_options: ReadOptions
    # None where it is known only once the file is read.
    rows: int | None
    max_bytes: int
    outputs: tuple[PredictMethod, ...]
    carry: tuple[str, ...]
    output_format: OutputFormat
    rows_per_shard: int | None
    on_bad_row: OnBadRow
    max_rejects: int | None
    target: str | None
    resources: Resources
    time_limit: timedelta
    max_attempts: int
    labels: dict[str, str]


def used_columns(asked: BatchInferenceSpec | BatchInferencePlan, columns: Iterable[str]) -> set[str]:
    """Which of the input's columns are carried, or scored against."""
    found = set(columns) if ALL_COLUMNS in asked.carry else set(asked.carry)
    return found if asked.target is None else found | {asked.target}


class ValidatedBatch(Value):
    """The answer of a dry run. `shards` is None where the file has to be read first."""

    plan: BatchInferencePlan
    shards: int | None = None
    warnings: tuple[str, ...] = ()


class BatchJob(Value):
    """The batch workflow's one argument. The plan itself is in storage, by reference."""

    tenant: str
    job_id: str
    owner: str
    # SHA-256 of the stored plan, in hex.
    plan_sha256: str
    # Whether there is a URI to copy from.
    copies_input: bool
    time_limit: timedelta
    max_attempts: int


class BatchOrder(Value):
    """One activity of a batch job."""

    tenant: str
    job_id: str
    owner: str
    plan_sha256: str
    step: str


class ShardOrder(Value):
    """One shard of a batch job, by its number from 0."""

    order: BatchOrder
    shard: int


class ShardRange(Value):
    """Rows [start, stop) of the input."""

    start: int
    stop: int


class ShardList(Value):
    """The shards of a job, in storage: they are planned once."""

    # How the input that the shards are read from is laid out: canonical, parquet, or arrow (a stranger's file).
    input_format: str
    # Whether the shards are read from a file that planning left, and not from the source itself.
    is_converted: bool = False
    rows: int
    shards: tuple[ShardRange, ...]
    # Of the fit of the input's columns to the model.
    warnings: tuple[str, ...] = ()


class ShardsPlanned(Value):
    """What the workflow learns of the shards."""

    shards: int
    rows: int


class ShardsJob(Value):
    """The argument of the workflow that runs the shards; what continues as new hands on how far it is."""

    job: BatchJob
    shards: int
    rows: int
    # The first shard that is not done, and not begun either.
    next: int = 0
    progress: ShardsProgress | None = None


class ShardsProgress(Value):
    """How far the shards are: kept in the memo of their workflow, so that one look tells it."""

    shards: int
    rows: int
    done_shards: int = 0
    done_rows: int = 0
    rejected_rows: int = 0
    # Unix seconds, by the workflow's clock: of the first shard's start, and of this word.
    started_at: float = 0.0
    as_of: float = 0.0


class ShardDone(Value):
    """One shard that is in storage."""

    shard: int
    rows: int
    rejected_rows: int


class ShardsDone(Value):
    """All shards are in storage."""

    rows: int
    rejected_rows: int


class ResultFile(Value):
    """One file of a result."""

    name: str
    rows: int
    size_bytes: int


class BinCounts(Value):
    """How one feature's values fell into the bins of its reference, over the rows looked at.

    counts: a bin each, as in FeatureReference.shares, or one for a feature without bins. unseen: of them, values
    that training never saw.
    """

    counts: tuple[int, ...] = ()
    missing: int = 0
    unseen: int = 0


class ClassCount(Value):
    """One class among the scored rows: how often it was true, how often predicted, and how often both."""

    true: int = 0
    predicted: int = 0
    both: int = 0


class ShardScores(Value):
    """Sums that add up over shards to the metrics of the whole. Rows without a target do not count.

    classes: by label. log_loss_sum, auc_*: with probabilities only; the histograms are of the second of two
    classes' scores, bin to count, for rows of the other and of that class.
    mean, deviation: of the target, its mean and its sum of squares around that; errors are target minus prediction.
    """

    rows: int = 0
    classes: dict[str, ClassCount] = Field(default_factory=dict)
    log_loss_sum: float | None = None
    auc_negatives: dict[int, int] = Field(default_factory=dict)
    auc_positives: dict[int, int] = Field(default_factory=dict)
    mean: float = 0.0
    deviation: float = 0.0
    absolute_error_sum: float = 0.0
    squared_error_sum: float = 0.0
    max_error: float = 0.0


class ShardFound(Value):
    """What one shard found (shard.json): small, so that thousands of them are merged in a moment."""

    shard: int
    # Rows of the input, rejected ones included.
    rows: int
    rejected_rows: int = 0
    file: ResultFile
    rejects: ResultFile | None = None
    # Name and Arrow type of each column of the output.
    columns: dict[str, str] = Field(default_factory=dict)
    # Rows that `drift` looked at: all, or an even sample of them.
    sampled_rows: int = 0
    drift: dict[str, BinCounts] = Field(default_factory=dict)
    scores: ShardScores | None = None
    engine: Engine = Engine.SKLEARN
    # Of predicting alone, and of the whole shard.
    predict_seconds: float = 0.0
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    warnings: tuple[str, ...] = ()


class FeatureDrift(Value):
    """How far one feature has moved from the training data.

    psi: population stability index over the training data's bins (Siddiqi 2006): 0.1 is slight, 0.25 is large.
    NaN where the feature has no bins or no values.
    """

    feature: str
    psi: float
    missing_share: float
    reference_missing_share: float
    # Categorical: the share of values never seen in training. Numeric: outside of the range of training.
    unseen_share: float = 0.0


class BatchReport(Value):
    """What the shards add up to (report.json); the manifest holds it too."""

    rows: int
    rejected_rows: int
    files: tuple[ResultFile, ...]
    rejects: tuple[ResultFile, ...] = ()
    # Name and Arrow type of each column of the output.
    columns: dict[str, str] = Field(default_factory=dict)
    drift: tuple[FeatureDrift, ...] = ()
    # Metrics against the target column, where one was named.
    scores: dict[str, float] = Field(default_factory=dict)
    scored_rows: int = 0
    # Seconds of computing, over all shards.
    predict_seconds: float = 0.0
    peak_memory_bytes: int = 0
    engine: str = "sklearn"
    warnings: tuple[str, ...] = ()


class BatchManifest(Value):
    """What commits a result (manifest.json in its folder): the last file to be written."""

    job_id: str
    model_name: str
    model_version: int
    dataset_id: str | None
    source_uri: str | None
    committed_at: datetime
    report: BatchReport


class BatchOutcome(Value):
    """What the batch workflow returns; the report stays in storage."""

    model_name: str
    model_version: int
    rows: int
    rejected_rows: int


class BatchResult(Value):
    """What a batch job ends with. `uri`: the folder that holds the files and manifest.json, last of all."""

    report: BatchReport
    model_name: str
    model_version: int
    uri: str


ShardsJob.model_rebuild()
