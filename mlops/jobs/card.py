"""What has to be known of a trained model to predict with it: its inputs, its outputs, and the data it learnt from."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from mlops.errors import InvalidRequest
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.model import Signature
from mlops.jobs.training import Task
from mlops.jobs.value import Value


class PredictMethod(StrEnum):
    """What a model is asked for, by scikit-learn's names."""

    PREDICT = "predict"
    PREDICT_PROBA = "predict_proba"
    DECISION_FUNCTION = "decision_function"


class Engine(StrEnum):
    """What computed a prediction."""

    SKLEARN = "sklearn"
    ONNX = "onnx"


class LabelType(StrEnum):
    """The type of what `predict` gives."""

    DOUBLE = "double"  # a regression's number
    LONG = "long"
    BOOLEAN = "boolean"
    STRING = "string"


class FeatureSpec(Value):
    """One column that the model takes. `required`: it had no missing value in training, so it may have none now."""

    name: str
    kind: ColumnKind
    required: bool = True


class FeatureReference(Value):
    """How one feature was distributed in training, for measuring drift against it.

    Numeric and datetime: `edges` are inner bin edges (quantiles, ascending, distinct), and bin i holds
    edges[i-1] <= x < edges[i]. Categorical and boolean: `categories` by falling frequency (at most 50), and one
    bin more for all others. Text: no bins. Shares are of the values that are there, and sum to 1.
    minimum, maximum: of numbers and times, as far as the rows that were looked at tell; None where there were none.
    """

    name: str
    edges: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    missing_share: float = 0.0
    minimum: float | None = None
    maximum: float | None = None


class EngineTiming(Value):
    """How long both engines took for a batch of so many rows, in milliseconds (medians)."""

    rows: int
    sklearn_ms: float
    onnx_ms: float


class OnnxExport(Value):
    """What came of exporting the model to ONNX. Where `reason` says why not, there is no file and no timing."""

    reason: str = ""
    # The largest difference from scikit-learn in any probability or value (relative to its size above 1).
    max_difference: float = 0.0
    tolerance: float = 0.0
    rows_checked: int = 0
    methods: tuple[PredictMethod, ...] = ()
    timings: tuple[EngineTiming, ...] = ()
    size_bytes: int = 0

    def faster(self, rows: int, method: PredictMethod) -> Engine:
        """The engine for a batch of so many rows: the one that was faster at the nearest measured size."""
        if method not in self.methods or not self.timings:
            return Engine.SKLEARN
        nearest = min(self.timings, key=lambda timing: abs(timing.rows - rows))
        return Engine.ONNX if nearest.onnx_ms < nearest.sklearn_ms else Engine.SKLEARN


class ModelCard(Value):
    """A model as those who predict with it see it (card.json beside the model's file).

    classes: a classifier's, as texts, in the order of its probabilities.
    """

    task: Task
    target: str
    features: tuple[FeatureSpec, ...]
    label_type: LabelType
    classes: tuple[str, ...] = ()
    methods: tuple[PredictMethod, ...] = (PredictMethod.PREDICT,)
    # Columns of decision_function: 1, or one a class.
    decision_columns: int = 0
    reference: tuple[FeatureReference, ...] = ()
    size_bytes: int = Field(default=0, ge=0)


# MLflow's types of columns: to what they mean to a model, and to what a model's answers are.
_KINDS = {
    "double": ColumnKind.NUMERIC,
    "float": ColumnKind.NUMERIC,
    "long": ColumnKind.NUMERIC,
    "integer": ColumnKind.NUMERIC,
    "boolean": ColumnKind.BOOLEAN,
    "string": ColumnKind.CATEGORICAL,
    "datetime": ColumnKind.DATETIME,
}
_LABELS = {
    "long": LabelType.LONG,
    "integer": LabelType.LONG,
    "boolean": LabelType.BOOLEAN,
    "string": LabelType.STRING,
}


def card_from_signature(signature: Signature) -> ModelCard:
    """The card of a model that a person registered, as far as its signature tells: no classes, no reference.

    Raises InvalidRequest for a signature without inputs, and for a type of column that no estimator takes.
    """
    strange = {column.name: column.type for column in signature.inputs if column.type not in _KINDS}
    if strange:
        name, found = next(iter(strange.items()))
        raise InvalidRequest(f"the model takes a column {name!r} of type {found!r}, which is not supported here")
    if not signature.inputs:
        raise InvalidRequest("the model has no signature of named columns: log it with one (infer_signature)")
    output = signature.outputs[0] if signature.outputs else None
    label_type = _LABELS.get(output.type, LabelType.DOUBLE) if output is not None else LabelType.DOUBLE
    return ModelCard(
        task=Task.REGRESSION if label_type is LabelType.DOUBLE else Task.CLASSIFICATION,
        target=output.name if output is not None else "",
        features=tuple(
            FeatureSpec(name=column.name, kind=_KINDS[column.type], required=column.required)
            for column in signature.inputs
        ),
        label_type=label_type,
    )
