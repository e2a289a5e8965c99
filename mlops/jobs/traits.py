"""What an estimator made from a spec does: its kind, whether it takes weights or missing values, gives probabilities.

All of it looks through pipelines, searches and the like at the estimator that does the work.
"""

from __future__ import annotations

from mlops.jobs.allowlist import Entry, allowlist
from mlops.jobs.catalog import steps_of
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.literals import same

# Parameters through which data reaches an estimator unchanged.
_PASSED_ON = ("estimator", "regressor")
_IMPUTERS = frozenset({"SimpleImputer", "KNNImputer", "IterativeImputer", "MissingIndicator"})


def predictor(spec: EstimatorSpec) -> EstimatorSpec | None:
    """The estimator that predicts: the last step of a pipeline, what a search searches, else the spec itself.

    None where there is none: a pipeline that ends in "passthrough", say.
    """
    entry = allowlist().entries.get(spec.path)
    if entry is None or not entry.inner:
        return spec
    held = _held(spec, entry.inner)
    return predictor(held[-1]) if held and held[-1] is not None else None


def kind_of(spec: EstimatorSpec) -> str:
    """The kind of the estimator that predicts; `unknown` where there is none."""
    found = predictor(spec)
    entry = None if found is None else allowlist().entries.get(found.path)
    return "unknown" if entry is None else entry.kind


def accepts_sample_weight(spec: EstimatorSpec) -> bool:
    """Whether `fit` does something with sample weights."""
    entry = allowlist().entries.get(spec.path)
    if entry is None:
        return False
    if not entry.weighted_through:
        return entry.sample_weight
    if entry.weighted_through not in spec.params:
        # TransformedTargetRegressor() holds a LinearRegression, which does.
        return True
    held = _held(spec, entry.weighted_through)
    if entry.weighted_through == entry.inner:
        held = held[-1:]
    held += _held(spec, "final_estimator")
    return bool(held) and all(one is not None and accepts_sample_weight(one) for one in held)


def gives(spec: EstimatorSpec, method: str) -> bool:
    """Whether a fitted one has the method: predict, predict_proba or decision_function."""
    entry = allowlist().entries.get(spec.path)
    if entry is None or method not in entry.methods:
        return False
    if method == "predict":
        return True
    rule = entry.probabilities
    if "inner" in rule:
        if rule["inner"] not in spec.params:
            return True  # StackingClassifier() ends in a LogisticRegression
        held = _held(spec, rule["inner"])
        return bool(held) and held[-1] is not None and gives(held[-1], method)
    if method == "predict_proba" and "param" in rule:
        value = spec.params.get(rule["param"])
        return value is not None and any(same(ParamValue.model_validate(one), value) for one in rule["values"])
    return True


def takes_missing(spec: EstimatorSpec) -> bool | None:
    """Whether missing numbers are fine as input; None where that depends on more than the spec."""
    return _takes(spec, "allow_nan")


def takes_categories(spec: EstimatorSpec) -> bool | None:
    """Whether texts and categories are fine as input; None where that depends on more than the spec."""
    return _takes(spec, "categorical")


def _takes(spec: EstimatorSpec, trait: str) -> bool | None:
    entry = allowlist().entries.get(spec.path)
    if entry is None or spec.class_name in ("ColumnTransformer", "FunctionTransformer"):
        return None
    if spec.class_name == "Pipeline":
        return _through_steps([held for held in _held(spec, "steps") if held is not None], trait)
    if spec.class_name in ("FeatureUnion", "VotingClassifier", "VotingRegressor"):
        answers = [_takes(held, trait) for _, value in steps_of(spec) if (held := value.object) is not None]
        return False if False in answers else (None if None in answers else True)
    if spec.class_name.startswith("Stacking"):
        answers = [_takes(held, trait) for _, value in steps_of(spec) if (held := value.object) is not None]
        return False if False in answers else None
    for name in _PASSED_ON:
        value = spec.params.get(name)
        if value is not None and value.object is not None:
            return _takes(value.object, trait)
    return entry.text or bool(getattr(entry, trait))


def _through_steps(steps: list[EstimatorSpec], trait: str) -> bool | None:
    """The first step that minds ends it; so does one that leaves nothing to mind."""
    for step in steps:
        answer = _takes(step, trait)
        if answer is not True:
            return answer
        if step.class_name in _IMPUTERS or (trait == "categorical" and _encodes(step)):
            return True
    return True if steps else None


def _encodes(step: EstimatorSpec) -> bool:
    entry: Entry | None = allowlist().entries.get(step.path)
    return entry is not None and (entry.categorical or entry.text)


def _held(spec: EstimatorSpec, parameter: str) -> list[EstimatorSpec | None]:
    """The estimators in a parameter, None for words such as "passthrough"; "drop" is left out."""
    value = spec.params.get(parameter)
    if value is None:
        return []
    if value.object is not None:
        return [value.object]
    return [step.object for _, step in steps_of(spec) if step.string != "drop"]
