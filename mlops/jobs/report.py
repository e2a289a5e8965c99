"""What a training job found out."""

from __future__ import annotations

import json

from pydantic import Field

from mlops.jobs.value import Value


class ProgressPoint(Value):
    """One number reported from inside a step: loss at iteration 30, say."""

    name: str
    step: int
    value: float


class StepResult(Value):
    """What one fit leaves: small numbers here, its files in storage under the job and step.

    scores: scorer name to value on the rows kept apart (empty where there are none).
    """

    step: str
    scores: dict[str, float] = Field(default_factory=dict)
    train_rows: int
    test_rows: int
    fit_seconds: float
    score_seconds: float
    # The process's own memory at its peak, measured while the step ran.
    peak_memory_bytes: int = 0
    progress: tuple[ProgressPoint, ...] = Field(default=(), max_length=200)
    # Warnings that scikit-learn raised during the fit (ConvergenceWarning and the like), each once.
    warnings: tuple[str, ...] = ()


class ModelNotes(Value):
    """What the final fit notes of its model file, for those who cannot open it (model.json)."""

    # Types in the file that skops does not trust by itself, all on the platform's allow-list.
    trusted_types: tuple[str, ...] = ()
    # Versions of what trained it: python, scikit-learn, numpy, scipy, skops, mlops.
    versions: dict[str, str] = Field(default_factory=dict)
    size_bytes: int = 0

    def versions_text(self) -> str:
        """The versions as one canonical text, for a tag."""
        return json.dumps(self.versions, sort_keys=True)


class MetricSummary(Value):
    """A metric over the folds. `deviation` is the population standard deviation, as np.std gives it."""

    name: str
    mean: float
    deviation: float
    folds: tuple[float, ...]


class Curve(Value):
    """A curve of at most 200 points. roc: x false positive rate, y true positive rate; pr: x recall, y precision."""

    kind: str
    # The class it is drawn for (one against the rest).
    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    # Area under the ROC curve, or the average precision.
    area: float


class ConfusionMatrix(Value):
    """counts[i][j]: rows of class labels[i] that were predicted as labels[j]."""

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


class ResidualSummary(Value):
    """Target minus prediction, over the rows judged."""

    mean: float
    deviation: float
    minimum: float
    quantile_05: float
    quantile_25: float
    median: float
    quantile_75: float
    quantile_95: float
    maximum: float


class Importance(Value):
    """How much a feature matters. `deviation` is 0 for impurity importances."""

    feature: str
    importance: float
    deviation: float = 0.0


class TrainingReport(Value):
    """Everything that is reported of a finished training, before the model is registered."""

    # Metrics over the folds (empty without folds).
    cross_validation: tuple[MetricSummary, ...] = ()
    # Metrics on the hold-out rows (empty without a hold-out).
    holdout: dict[str, float] = Field(default_factory=dict)
    # Of the hold-out rows, or of the out-of-fold predictions where there is no hold-out.
    confusion_matrix: ConfusionMatrix | None = None
    residuals: ResidualSummary | None = None
    curves: tuple[Curve, ...] = ()
    # "permutation" or "impurity"; empty where the estimator and the data give neither.
    importance_kind: str = ""
    importances: tuple[Importance, ...] = ()
    classes: tuple[str, ...] = ()
    fit_seconds: float = 0.0
    total_fit_seconds: float = 0.0
    peak_memory_bytes: int = 0
    model_bytes: int = 0
    warnings: tuple[str, ...] = ()
    # Names of the files below the step `evaluate` that a person may want to look at: plots/roc.png.
    plots: tuple[str, ...] = ()
    # Versions of what trained it: python, scikit-learn, numpy, scipy, mlops.
    versions: dict[str, str] = Field(default_factory=dict)


class Evaluated(Value):
    """What the evaluation hands to the workflow; the whole report is in storage."""

    metrics: dict[str, float] = Field(default_factory=dict)


class TrainingOutcome(Value):
    """What the training workflow returns; the report stays in storage."""

    run_id: str
    experiment_id: str
    model_uri: str
    model_name: str | None = None
    model_version: int | None = None


class TrainingResult(Value):
    """What a training job ends with."""

    report: TrainingReport
    run_id: str
    experiment_id: str
    # models:/NAME/VERSION, or models:/m-… where no name was asked for.
    model_uri: str
    model_name: str | None = None
    model_version: int | None = None
