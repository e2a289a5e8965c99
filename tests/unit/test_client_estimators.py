from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import RandomForestClassifier, StackingClassifier, VotingClassifier
from sklearn.feature_selection import SelectKBest, mutual_info_classif
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, CompoundKernel, Matern, WhiteKernel
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LogisticRegression, LogisticRegressionCV, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    PredefinedSplit,
    RandomizedSearchCV,
    RepeatedStratifiedKFold,
    ShuffleSplit,
)
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC

from mlops.client.estimators import estimator_spec
from mlops.errors import InvalidRequest
from mlops.jobs.allowlist import Entry, allowlist
from mlops.jobs.catalog import check_estimator
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.literals import same, to_values
from mlops.ml.estimators import build

SEED = 5


def held(path: str, **params: object) -> ParamValue:
    return ParamValue(object=EstimatorSpec(path=path, params=to_values(params)))


RIDGE, LOGISTIC, SCALER = (
    held("sklearn.linear_model.Ridge"),
    held("sklearn.linear_model.LogisticRegression"),
    held("sklearn.preprocessing.StandardScaler"),
)
REQUIRED: dict[str, dict[str, object]] = {
    "Pipeline": {"steps": [("a", SCALER), ("b", RIDGE)]},
    "FeatureUnion": {"transformer_list": [("a", SCALER)]},
    "ColumnTransformer": {"transformers": [("a", SCALER, ["x"])]},
    "VotingClassifier": {"estimators": [("a", LOGISTIC)]},
    "VotingRegressor": {"estimators": [("a", RIDGE)]},
    "StackingClassifier": {"estimators": [("a", LOGISTIC)]},
    "StackingRegressor": {"estimators": [("a", RIDGE)]},
    "SparseCoder": {"dictionary": [[1.0, 0.0], [0.0, 1.0]]},
}


def example(entry: Entry) -> EstimatorSpec:
    params = dict(REQUIRED.get(entry.path.rpartition(".")[2], {}))
    for name, parameter in entry.params.items():
        if parameter.required and name not in params:
            params[name] = {"param_grid": {"C": [1.0]}, "param_distributions": {"C": [1.0]}}.get(name, LOGISTIC)
    return EstimatorSpec(path=entry.path, params=to_values(params))


ENTRIES = [entry for entry in allowlist().entries.values() if entry.is_estimator]


def unseeded(spec: EstimatorSpec) -> EstimatorSpec:
    """Without the seed that building put in."""
    return EstimatorSpec.model_validate(_stripped(spec.model_dump(mode="json")))


def _stripped(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _stripped(value) for key, value in data.items() if not (key == "random_state" and value == {"integer": SEED})}  # fmt: skip
    return [_stripped(item) for item in data] if isinstance(data, list) else data


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path.rpartition(".")[2])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_every_estimator_of_the_catalogue_survives_the_round_trip(entry: Entry) -> None:
    spec = example(entry)
    assert unseeded(estimator_spec(build(spec, seed=SEED))) == spec


def params_of(estimator: Any) -> dict[str, Any]:
    """Parameters without those that the platform sets, nested objects by their parameters."""
    return {name: comparable(value) for name, value in estimator.get_params(deep=False).items() if not _set_by_us(name, value)}  # fmt: skip


def _set_by_us(name: str, value: object) -> bool:
    return name == "n_jobs" or (name == "random_state" and value in (None, SEED))


def comparable(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, np.ndarray | pd.Index):
        return [comparable(item) for item in value.tolist()]
    if isinstance(value, list | tuple):
        return type(value)(comparable(item) for item in value)
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items()}
    if hasattr(value, "get_params") and not isinstance(value, type):
        return type(value), params_of(value)
    if hasattr(value, "get_n_splits") or isinstance(value, make_column_selector):
        return type(value), {name: comparable(one) for name, one in vars(value).items() if not _set_by_us(name, one)}
    return value


ORDINARY = [
    RandomForestClassifier(n_estimators=np.int64(20), max_features=np.float64(0.5), n_jobs=-1),
    make_pipeline(StandardScaler(), SVC(C=2, probability=True, class_weight={0: 1.0, 1: 2.5})),
    Pipeline([("impute", SimpleImputer()), ("skip", "passthrough"), ("clf", LogisticRegression())]),
    ColumnTransformer(
        [
            ("num", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "fare"]),
            ("cat", OneHotEncoder(handle_unknown="ignore", categories=[np.array(["a", "b"], dtype=object)]), ["sex"]),
            ("rest", "drop", pd.Index(["x", "y"])),
            ("some", OrdinalEncoder(), make_column_selector(pattern="^c", dtype_include=[object, np.number])),
        ],
        remainder=StandardScaler(),
    ),
    FeatureUnion([("a", StandardScaler()), ("b", "drop")], transformer_weights={"a": 2.0}),
    VotingClassifier([("a", LogisticRegression()), ("b", SVC())], weights=[1, 2]),
    StackingClassifier([("a", SVC())], final_estimator=LogisticRegression(C=3.0), cv=KFold(3, shuffle=True)),
    GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": np.logspace(-1, 1, 3), "svc": [SVC(), LogisticRegression()]}),
    GridSearchCV(SVC(), [{"C": range(1, 4)}, {"kernel": ["rbf"]}], scoring=["accuracy", "f1"], refit="f1"),
    RandomizedSearchCV(SVC(), {"C": np.logspace(-1, 1, 5), "degree": range(1, 4)}, n_iter=3),
    LogisticRegressionCV(cv=ShuffleSplit(3, test_size=0.2), scoring="accuracy", l1_ratios=(0.0,), use_legacy_attributes=False),
    LogisticRegressionCV(cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=3), l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False),
    GridSearchCV(SVC(), {"C": [1.0]}, cv=PredefinedSplit([0, 0, 1, 1])),
    GaussianProcessRegressor(kernel=1.0 * RBF(length_scale=[1.0, 2.0]) + WhiteKernel() ** 2),
    GaussianProcessRegressor(kernel=CompoundKernel([RBF(), Matern(nu=2.5, length_scale_bounds="fixed")])),
    SelectKBest(mutual_info_classif, k=3),
    TransformedTargetRegressor(Ridge(), func=np.log1p, inverse_func=np.expm1),
    FunctionTransformer(np.log1p, feature_names_out="one-to-one"),
    OneHotEncoder(dtype=np.float32),
    OneHotEncoder(dtype=int, drop=["a"]),
    OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan),
    SimpleImputer(missing_values=-1, fill_value="x", strategy="constant"),
]  # fmt: skip


@pytest.mark.parametrize("estimator", ORDINARY, ids=lambda estimator: type(estimator).__name__)
def test_an_ordinary_estimator_is_built_again_with_equal_parameters(estimator: Any) -> None:
    spec = estimator_spec(estimator)
    over_the_wire = EstimatorSpec.model_validate_json(spec.model_dump_json())
    built = build(over_the_wire, seed=SEED)
    assert type(built) is type(estimator)
    assert as_lists(params_of(built)) == as_lists(params_of(estimator))


def as_lists(value: Any) -> Any:
    """Ranges and arrays come back as lists, and the types of a column selector by name."""
    if isinstance(value, dict):
        return {key: as_lists(item) for key, item in value.items()}
    if value in (object, np.number):
        return {object: "object", np.number: "number"}[value]
    return [as_lists(item) for item in value] if isinstance(value, list | tuple | range) else value


def test_only_what_differs_from_the_defaults_is_carried() -> None:
    assert estimator_spec(RandomForestClassifier()).params == {}
    assert estimator_spec(RandomForestClassifier(n_estimators=100, max_depth=3)).params == to_values({"max_depth": 3})
    assert list(estimator_spec(Lasso(alpha=1)).params) == ["alpha"]  # 1, and the default is 1.0


class MyForest(RandomForestClassifier):  # type: ignore[misc]
    """A class of a caller's own."""


class Stranger:
    """Nothing of scikit-learn's."""


def a_function(x: Any) -> Any:
    return x


@pytest.mark.parametrize(
    ("make", "field", "says"),
    [
        (MyForest, "estimator", "MyForest is a class of your own"),
        (Stranger, "estimator", "Stranger is not on the list of allowed classes"),
        (lambda: RandomForestClassifier, "estimator", "hand over an instance: RandomForestClassifier()"),
        (lambda: None, "estimator", "NoneType"),
        (lambda: make_pipeline(StandardScaler(), MyForest()), "estimator.params[steps][1][1]", "MyForest"),
        (lambda: LogisticRegression().fit([[0], [1]], [0, 1]), "estimator", "this LogisticRegression is fitted"),
        (
            lambda: make_pipeline(StandardScaler().fit([[0], [1]]), SVC()),
            "estimator.params[steps][0][1]",
            "this StandardScaler is fitted",
        ),
        (lambda: StandardScaler().set_output(transform="pandas"), "estimator", "set_output"),
        (
            lambda: RandomForestClassifier(random_state=np.random.RandomState(0)),
            "estimator.params[random_state]",
            "RandomState instance; give an integer",
        ),
        (lambda: FunctionTransformer(lambda x: x), "estimator.params[func]", "a lambda"),
        (lambda: FunctionTransformer(a_function), "estimator.params[func]", "a_function"),
        (lambda: SVC(kernel=a_function), "estimator.params[kernel]", "a_function"),
        (lambda: FunctionTransformer(np.linalg.norm), "estimator.params[func]", "norm"),
        (lambda: SVC(C=-1), "estimator.params[C]", "is -1, but must be a number > 0"),
        (lambda: Pipeline([("a", SVC())], memory="/tmp/x"), "estimator.params[memory]", "must be None"),
        (lambda: GridSearchCV(SVC(), {"C": {1, 2}}), "estimator.params[param_grid][C]", "a set"),
        (
            lambda: ColumnTransformer([("a", StandardScaler(), slice(0, 2))]),
            "estimator.params[transformers][0][2]",
            "a slice",
        ),
        (lambda: GridSearchCV(SVC(), {"C": [1]}, cv=GroupKFold()), "estimator.params[cv]", "group_column"),
        (
            lambda: RandomizedSearchCV(SVC(), {"C": scipy.stats.expon()}),
            "estimator.params[param_distributions][C]",
            "expon is a distribution, which cannot be stored safely; list",
        ),
        (lambda: Ridge(alpha=np.zeros(1_000_000)), "estimator.params[alpha]", "more data than a spec can carry"),
        (lambda: SVC(class_weight={0: 10**30}), "estimator.params[class_weight][0]", "64 bits"),
        (lambda: SVC(class_weight={(0, 1): 1.0}), "estimator.params[class_weight]", "keys must be"),
    ],
)
def test_what_a_spec_cannot_carry_is_refused_by_name(make: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        estimator_spec(make())
    assert says in refused.value.message
    assert any(path.startswith(field) for path in refused.value.violations), refused.value.violations


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(InvalidRequest, match="holds itself"):
        estimator_spec(SVC(class_weight={0: endless}))


def test_a_range_without_end_is_refused_at_once() -> None:
    with pytest.raises(InvalidRequest, match="more data"):
        estimator_spec(GridSearchCV(SVC(), {"C": range(1, 10**12)}))


SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20)
KEYS = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=8)
PLAIN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(kw_args=st.dictionaries(st.text(min_size=1, max_size=8), PLAIN, max_size=3))
def test_any_plain_value_survives_the_round_trip(kw_args: dict[str, Any]) -> None:
    spec = estimator_spec(FunctionTransformer(kw_args=kw_args))
    over_the_wire = EstimatorSpec.model_validate_json(spec.model_dump_json())
    built = build(over_the_wire, seed=0)
    assert comparable(built.kw_args) == comparable(kw_args)
    assert repr(comparable(built.kw_args)) == repr(comparable(kw_args))  # 1, 1.0 and True are told apart
    again = estimator_spec(built)
    assert all(same(value, again.params[name]) for name, value in spec.params.items())


@settings(max_examples=150, deadline=None)
@given(
    c=st.floats(min_value=1e-6, max_value=1e6),
    kernel=st.sampled_from(["rbf", "linear", "poly"]),
    gamma=st.sampled_from(["scale", "auto"]) | st.floats(min_value=0, max_value=10),
    degree=st.integers(0, 10),
    weights=st.none() | st.just("balanced") | st.dictionaries(st.integers(0, 5) | st.text(max_size=5), st.floats(0.1, 5), min_size=1),
    seed=st.none() | st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_any_valid_parameters_survive_the_round_trip(
    c: float, kernel: str, gamma: Any, degree: int, weights: Any, seed: int | None
) -> None:
    svc = SVC(C=c, kernel=kernel, gamma=gamma, degree=degree, class_weight=weights, random_state=seed)
    built = build(EstimatorSpec.model_validate_json(estimator_spec(svc).model_dump_json()), seed=SEED)
    expected = svc.get_params() | {"random_state": SEED if seed is None else seed}
    assert built.get_params() == expected


@settings(max_examples=200, deadline=None)
@given(params=st.dictionaries(st.sampled_from(["C", "kernel", "gamma", "cv", "class_weight", "x"]), PLAIN, max_size=4))
def test_any_malformed_parameters_are_refused_and_nothing_else_is_raised(params: dict[str, Any]) -> None:
    spec = EstimatorSpec(path="sklearn.svm.SVC", params=to_values(params))
    if check_estimator(spec, field="f"):
        with pytest.raises(InvalidRequest):
            build(spec, seed=0)
    else:
        build(spec, seed=0)._validate_params()
