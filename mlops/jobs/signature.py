"""What a trained model takes and gives, as its signature says it."""

from __future__ import annotations

from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.model import Signature, SignatureColumn
from mlops.jobs.training import Task, TrainingPlan

# Datetimes reach an estimator as Unix seconds; integers may go missing one day, so every number is a double.
_TYPES = {
    ColumnKind.NUMERIC: "double",
    ColumnKind.BOOLEAN: "boolean",
    ColumnKind.CATEGORICAL: "string",
    ColumnKind.TEXT: "string",
    ColumnKind.DATETIME: "double",
}


def signature_of(plan: TrainingPlan) -> Signature:
    """The features in the order they are trained in, and the target."""
    return Signature(
        inputs=tuple(
            SignatureColumn(name=c.name, type=_TYPES[c.kind], required=c.null_count == 0) for c in plan.features
        ),
        outputs=(SignatureColumn(name=plan.target.name, type=_output(plan.task, plan.target)),),
    )


def _output(task: Task, target: Column) -> str:
    if task is Task.REGRESSION:
        return "double"
    return "long" if target.kind is ColumnKind.NUMERIC else _TYPES[target.kind]
