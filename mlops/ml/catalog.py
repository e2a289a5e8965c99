"""Generates the allow-list of estimators from the installed scikit-learn: `python -m mlops.ml.catalog`.

The result, mlops/jobs/catalog.json, is committed: the gateway checks specs against it without scikit-learn.
"""

from __future__ import annotations

import importlib
import inspect
import json
import warnings
from pathlib import Path
from typing import Any

import sklearn
from sklearn import base
from sklearn.experimental import enable_halving_search_cv, enable_iterative_imputer
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.utils import all_estimators
from sklearn.utils.validation import has_fit_parameter

import mlops.jobs
from mlops.ml import constraints
from mlops.ml.auxiliary import AUXILIARY
from mlops.ml.constraints import Rule

FILE = Path(mlops.jobs.__file__).with_name("catalog.json")

_GROUPS = "it needs groups, and nothing hands groups to the cross-validation inside an estimator; name a group_column"
EXCLUDED = {
    "sklearn.cluster.Birch": "its tree cannot be stored safely; MiniBatchKMeans scales alike",
    "sklearn.frozen.FrozenEstimator": "it wraps a fitted estimator; hand over the unfitted one",
    "sklearn.feature_extraction.image.PatchExtractor": "it takes images, and a dataset is a table",
    "sklearn.multioutput.ClassifierChain": "it predicts several targets, and a job has one",
    "sklearn.multioutput.MultiOutputClassifier": "it predicts several targets, and a job has one",
    "sklearn.multioutput.MultiOutputRegressor": "it predicts several targets, and a job has one",
    "sklearn.multioutput.RegressorChain": "it predicts several targets, and a job has one",
    "sklearn.linear_model.MultiTaskElasticNet": "it predicts several targets, and a job has one; use ElasticNet",
    "sklearn.linear_model.MultiTaskElasticNetCV": "it predicts several targets, and a job has one; use ElasticNetCV",
    "sklearn.linear_model.MultiTaskLasso": "it predicts several targets, and a job has one; use Lasso",
    "sklearn.linear_model.MultiTaskLassoCV": "it predicts several targets, and a job has one; use LassoCV",
    "sklearn.preprocessing.LabelBinarizer": "it transforms targets, which are encoded as needed",
    "sklearn.preprocessing.LabelEncoder": "it transforms targets; for features use OrdinalEncoder",
    "sklearn.preprocessing.MultiLabelBinarizer": "it transforms targets, which are encoded as needed",
    "sklearn.model_selection.GroupKFold": _GROUPS,
    "sklearn.model_selection.GroupShuffleSplit": _GROUPS,
    "sklearn.model_selection.LeaveOneGroupOut": _GROUPS,
    "sklearn.model_selection.LeavePGroupsOut": _GROUPS,
    "sklearn.model_selection.StratifiedGroupKFold": _GROUPS,
}

# Importing one of these modules is what makes an experimental class importable.
_ENABLED_BY = {
    "IterativeImputer": enable_iterative_imputer.__name__,
    "HalvingGridSearchCV": enable_halving_search_cv.__name__,
    "HalvingRandomSearchCV": enable_halving_search_cv.__name__,
}
# The parameter that holds the estimator which does the predicting; of a list of steps, the last one.
_INNER = {
    "Pipeline": "steps",
    "GridSearchCV": "estimator",
    "RandomizedSearchCV": "estimator",
    "HalvingGridSearchCV": "estimator",
    "HalvingRandomSearchCV": "estimator",
    "RFE": "estimator",
    "RFECV": "estimator",
}
# Meta-estimators that hand sample weights on to what they hold, instead of taking them themselves.
_WEIGHTED_THROUGH = _INNER | {
    "TransformedTargetRegressor": "regressor",
    "VotingClassifier": "estimators",
    "VotingRegressor": "estimators",
    "StackingClassifier": "estimators",
    "StackingRegressor": "estimators",
    "FixedThresholdClassifier": "estimator",
    "TunedThresholdClassifierCV": "estimator",
}
# When an estimator gives probabilities: a parameter with one of these values, or a held estimator that does.
_PROBABILITIES: dict[str, dict[str, Any]] = {
    "SVC": {"param": "probability", "values": [{"boolean": True}]},
    "NuSVC": {"param": "probability", "values": [{"boolean": True}]},
    "SGDClassifier": {"param": "loss", "values": [{"string": "log_loss"}, {"string": "modified_huber"}]},
    "VotingClassifier": {"param": "voting", "values": [{"string": "soft"}]},
    "OneVsRestClassifier": {"inner": "estimator"},
    "SelfTrainingClassifier": {"inner": "estimator"},
    "FixedThresholdClassifier": {"inner": "estimator"},
    "TunedThresholdClassifierCV": {"inner": "estimator"},
    "StackingClassifier": {"inner": "final_estimator"},
    **{name: {"inner": parameter} for name, parameter in _INNER.items()},
}
# Made without arguments, but saying nothing of themselves so: what they take is what their estimator takes.
_HOLLOW = frozenset({"SelfTrainingClassifier"})
_METHODS = (
    "decision_function", "fit", "fit_transform", "get_n_splits", "predict", "predict_proba", "score", "split", "transform",
)  # fmt: skip
_MIXINS = {
    base.ClassifierMixin: "classifier",
    base.RegressorMixin: "regressor",
    base.ClusterMixin: "clusterer",
    base.OutlierMixin: "outlier_detector",
    base.TransformerMixin: "transformer",
}
# FeatureUnion and the like declare no constraints of their own.
_UNDECLARED: dict[str, list[Rule]] = {
    "n_jobs": [{"is": "integer"}, {"is": "none"}],
    "transformer_weights": [{"is": "mapping"}, {"is": "none"}],
    "verbose": [{"is": "boolean"}],
}
_CLUSTERING = frozenset({
    "adjusted_mutual_info_score", "adjusted_rand_score", "completeness_score", "fowlkes_mallows_score",
    "homogeneity_score", "mutual_info_score", "normalized_mutual_info_score", "rand_score", "v_measure_score",
})  # fmt: skip
_BINARY = frozenset({
    "f1", "jaccard", "neg_negative_likelihood_ratio", "positive_likelihood_ratio", "precision", "recall", "roc_auc",
})  # fmt: skip
# Scorers that take the label 1 for the positive class, and nothing else.
_POSITIVE_IS_ONE = frozenset({"average_precision", "f1", "jaccard", "precision", "recall"})
_LEAST_TARGET = {
    "neg_mean_gamma_deviance": {"bound": 0, "inclusive": False},
    "neg_mean_poisson_deviance": {"bound": 0, "inclusive": True},
    "neg_mean_squared_log_error": {"bound": -1, "inclusive": False},
    "neg_root_mean_squared_log_error": {"bound": -1, "inclusive": False},
}


def generate() -> dict[str, Any]:
    """The whole catalogue; `render` gives the text of its file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated classes warn when they are made
        entries = {path: _entry(kind) for path, kind in sorted(_estimators().items())}
        entries |= AUXILIARY
        return {
            "scikit_learn": ".".join(sklearn.__version__.split(".")[:2]),
            "entries": dict(sorted(entries.items())),
            "excluded": dict(sorted(EXCLUDED.items())),
            "functions": sorted(constraints.FUNCTIONS),
            "dtypes": sorted(constraints.DTYPES),
            "scorers": {name: _scorer(name) for name in sorted(get_scorer_names()) if not name.endswith("_samples")},
        }


def render() -> str:
    """The text of catalog.json: a line a parameter, so that a new scikit-learn shows as a readable difference."""
    lines = ["{"]
    catalogue = generate()
    for index, (name, section) in enumerate(catalogue.items()):
        comma = "," if index < len(catalogue) - 1 else ""
        if name == "entries":
            lines += [' "entries": {', ",\n".join(_render_entry(*entry) for entry in section.items()), f" }}{comma}"]
        elif isinstance(section, dict):
            body = ",\n".join(f"  {json.dumps(key)}: {_line(value)}" for key, value in section.items())
            lines += [f" {json.dumps(name)}: {{", body, f" }}{comma}"]
        else:
            lines.append(f" {json.dumps(name)}: {_line(section)}{comma}")
    return "\n".join([*lines, "}", ""])


def _render_entry(path: str, entry: dict[str, Any]) -> str:
    head = {name: value for name, value in entry.items() if name != "params"}
    params = ",\n".join(f"    {json.dumps(name)}: {_line(param)}" for name, param in entry["params"].items())
    body = f"{{\n{params}\n   }}" if params else "{}"
    return f'  {json.dumps(path)}: {{"about": {_line(head)},\n   "params": {body}}}'


def _line(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _estimators() -> dict[str, type]:
    found = {public_path(kind): kind for _, kind in all_estimators()}
    return {path: kind for path, kind in found.items() if path not in EXCLUDED}


def public_path(kind: type) -> str:
    """The import path that scikit-learn documents: sklearn.linear_model.Ridge for sklearn.linear_model._ridge.Ridge."""
    parts = kind.__module__.split(".")
    private = next((index for index, part in enumerate(parts) if part.startswith("_")), len(parts))
    module = ".".join(parts[:private])
    if getattr(importlib.import_module(module), kind.__name__, None) is not kind:
        raise LookupError(f"{kind.__module__}.{kind.__qualname__} has no public import path")
    return f"{module}.{kind.__name__}"


def _entry(kind: type) -> dict[str, Any]:
    name = kind.__name__
    signature = inspect.signature(kind)
    entry: dict[str, Any] = {
        "kind": next((label for mixin, label in _MIXINS.items() if issubclass(kind, mixin)), "other"),
        "methods": [method for method in _METHODS if hasattr(kind, method)],
    }
    if name in _ENABLED_BY:
        entry["enabled_by"] = _ENABLED_BY[name]
    if name in _INNER:
        entry |= {"kind": "other", "inner": _INNER[name]}
    if name in _WEIGHTED_THROUGH:
        entry["weighted_through"] = _WEIGHTED_THROUGH[name]
    elif has_fit_parameter(kind, "sample_weight"):
        entry["sample_weight"] = True
    if name in _PROBABILITIES:
        entry["probabilities"] = _PROBABILITIES[name]
    entry |= {trait: True for trait in ("random_state", "n_jobs") if trait in signature.parameters}
    entry |= _tags(kind, signature)
    declared = getattr(kind, "_parameter_constraints", {})
    entry["params"] = {
        parameter.name: _parameter(parameter, declared.get(parameter.name))
        for parameter in signature.parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    }
    return entry


def _tags(kind: type, signature: inspect.Signature) -> dict[str, bool]:
    if kind.__name__ in _HOLLOW or any(_required(parameter) for parameter in signature.parameters.values()):
        return {}
    tags = kind().__sklearn_tags__()
    found = {
        "allow_nan": tags.input_tags.allow_nan,
        "categorical": tags.input_tags.categorical,
        "text": tags.input_tags.string and not tags.input_tags.two_d_array,
        "one_dimensional": not tags.input_tags.two_d_array,
    }
    return {trait: True for trait, holds in found.items() if holds}


def _required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD


def _parameter(parameter: inspect.Parameter, declared: object) -> dict[str, Any]:
    rules = constraints.rules_of(parameter.name, declared) or _UNDECLARED.get(parameter.name, [])
    default = constraints.default_of(parameter)
    return {"rules": rules} if default is None else {"default": default, "rules": rules}


def _scorer(name: str) -> dict[str, Any]:
    scorer = get_scorer(name)
    responses = [scorer._response_method] if isinstance(scorer._response_method, str) else scorer._response_method
    metric: str = scorer._score_func.__name__
    found: dict[str, Any] = {"task": _task(name, metric, list(responses)), "responses": list(responses)}
    # Every scorer gives more for a better model; of these the metric itself is a loss, and its sign is turned.
    if scorer._sign < 0:
        found["negated"] = True
    if name in _BINARY:
        found["binary"] = True
    if name in _POSITIVE_IS_ONE:
        found["positive_is_one"] = True
    if name in _LEAST_TARGET:
        found["least_target"] = _LEAST_TARGET[name]
    return found


def _task(name: str, metric: str, responses: list[str]) -> str:
    if name in _CLUSTERING:
        return "clustering"
    module = get_scorer(name)._score_func.__module__
    return "regression" if module.endswith("_regression") else "classification"


if __name__ == "__main__":
    FILE.write_text(render(), encoding="utf-8")
