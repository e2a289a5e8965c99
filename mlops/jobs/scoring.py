"""Which scorers judge a job: the ones asked for, or sensible ones for the task."""

from __future__ import annotations

from collections.abc import Sequence

from mlops.jobs.allowlist import Scorer, allowlist, nearest
from mlops.jobs.dataset import Column, ColumnKind
from mlops.jobs.estimator import EstimatorSpec
from mlops.jobs.training import Task
from mlops.jobs.traits import gives

_POSITIVE_PAIRS = ({"0", "1"}, {"-1", "1"}, {"0.0", "1.0"}, {"-1.0", "1.0"}, {"false", "true"})


def default_scoring(task: Task, target: Column, estimator: EstimatorSpec) -> tuple[str, ...]:
    """The scorers for whoever names none; the first one is the main one."""
    if task is Task.REGRESSION:
        return ("r2", "neg_root_mean_squared_error", "neg_mean_absolute_error")
    chosen = ["accuracy", "f1_macro"]
    probabilities = gives(estimator, "predict_proba")
    if target.distinct_count == 2 and (probabilities or gives(estimator, "decision_function")):
        chosen.append("roc_auc")
    if target.distinct_count > 2 and probabilities:
        chosen.append("roc_auc_ovr")
    if probabilities:
        chosen.append("neg_log_loss")
    return tuple(chosen)


def check_scoring(
    scoring: Sequence[str], *, task: Task, target: Column, estimator: EstimatorSpec, field: str
) -> dict[str, str]:
    """What is wrong with the scorers asked for, by path: `spec.scoring[1]`."""
    violations: dict[str, str] = {}
    for index, name in enumerate(scoring):
        problem = _problem(name, task, target, estimator)
        if problem is None and name in scoring[:index]:
            problem = f"{name!r} is named twice"
        if problem is not None:
            violations[f"{field}[{index}]"] = problem
    return violations


def _problem(name: str, task: Task, target: Column, estimator: EstimatorSpec) -> str | None:
    scorers = allowlist().scorers
    scorer = scorers.get(name)
    if scorer is None:
        suited = [one for one, about in scorers.items() if about.task == task.value]
        return f"{name[:80]!r} is not a scorer that scikit-learn knows{nearest(name, suited)}"
    if scorer.task != task.value:
        return f"{name!r} judges {scorer.task}, but this job is a {task.value}"
    if not any(gives(estimator, response) for response in scorer.responses):
        needs = " or ".join(scorer.responses)
        return f"{name!r} needs {needs}, which {estimator.class_name} as given does not have"
    return _unsuited_target(scorer, target)


def _unsuited_target(scorer: Scorer, target: Column) -> str | None:
    classes = target.distinct_count
    if scorer.binary and classes > 2:
        return f"{scorer.name!r} is for two classes, but {target.name!r} has {classes:,}; {_for_many(scorer.name)}"
    if scorer.positive_is_one and classes == 2 and not _has_positive_one(target):
        labels = " and ".join(repr(one.value) for one in target.top_values) or "others"
        return f"{scorer.name!r} takes the class 1 for the positive one, but the classes are {labels}; {_for_many(scorer.name)}"
    least = scorer.least_target
    if least and target.minimum is not None:
        fine = target.minimum >= least["bound"] if least["inclusive"] else target.minimum > least["bound"]
        if not fine:
            sign = ">=" if least["inclusive"] else ">"
            return f"{scorer.name!r} needs targets {sign} {least['bound']}, but the smallest is {target.minimum:g}"
    return None


def _for_many(name: str) -> str:
    scorers = allowlist().scorers
    instead = {"roc_auc": "roc_auc_ovr", "average_precision": "roc_auc"}.get(name, f"{name}_macro")
    return f"try {instead!r}" if instead in scorers else "choose one for several classes"


def _has_positive_one(target: Column) -> bool:
    if target.kind is ColumnKind.BOOLEAN or not target.top_values:
        return True
    if target.kind is not ColumnKind.NUMERIC:
        return False
    return {one.value.lower() for one in target.top_values} in _POSITIVE_PAIRS
