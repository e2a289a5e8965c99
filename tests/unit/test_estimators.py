from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning

from mlops.errors import InvalidRequest
from mlops.jobs.allowlist import allowlist
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.literals import Reference, to_values
from mlops.jobs.traits import accepts_sample_weight, gives, kind_of, takes_categories, takes_missing
from mlops.ml.estimators import build


def spec(path: str, **params: object) -> EstimatorSpec:
    return EstimatorSpec(path=path, params=to_values(params))


def held(path: str, **params: object) -> ParamValue:
    return ParamValue(object=spec(path, **params))


def pipeline(*steps: ParamValue) -> EstimatorSpec:
    return spec("sklearn.pipeline.Pipeline", steps=[(f"s{index}", step) for index, step in enumerate(steps)])


SCALER = held("sklearn.preprocessing.StandardScaler")
IMPUTER = held("sklearn.impute.SimpleImputer")
LOGISTIC = held("sklearn.linear_model.LogisticRegression")
FOREST = held("sklearn.ensemble.RandomForestClassifier")
ONE_HOT = held("sklearn.preprocessing.OneHotEncoder")
SVC = held("sklearn.svm.SVC")


def of(value: ParamValue) -> EstimatorSpec:
    assert value.object is not None
    return value.object


def test_a_path_off_the_list_is_never_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    imported: list[str] = []
    monkeypatch.setattr("importlib.import_module", lambda name: imported.append(name))
    with pytest.raises(InvalidRequest, match=r"os\.system"):
        build(spec("os.system"), seed=0)
    with pytest.raises(InvalidRequest):
        build(spec("sklearn.preprocessing.FunctionTransformer", func=Reference("os.system")), seed=0)
    assert imported == []
    assert os.getpid() > 0


def test_every_unset_random_state_gets_the_seed_nested_ones_too() -> None:
    bagging = held("sklearn.ensemble.BaggingClassifier", estimator=FOREST, random_state=3)
    built = build(pipeline(SCALER, bagging), seed=7)
    assert built.steps[1][1].random_state == 3
    assert built.steps[1][1].estimator.random_state == 7
    assert build(spec("sklearn.svm.SVC", random_state=None), seed=7).random_state == 7


def test_a_splitter_is_seeded_only_where_it_shuffles() -> None:
    plain = build(spec("sklearn.linear_model.LassoCV", cv=held("sklearn.model_selection.KFold")), seed=7)
    assert plain.cv.random_state is None
    shuffled = held("sklearn.model_selection.KFold", shuffle=True)
    assert build(spec("sklearn.linear_model.LassoCV", cv=shuffled), seed=7).cv.random_state == 7


def test_n_jobs_is_left_to_the_context() -> None:
    assert build(spec("sklearn.ensemble.RandomForestClassifier", n_jobs=-1), seed=0).n_jobs is None
    nested = build(pipeline(SCALER, held("sklearn.ensemble.RandomForestClassifier", n_jobs=8)), seed=0)
    assert nested.steps[1][1].n_jobs is None


def test_lists_become_arrays_where_scikit_learn_insists() -> None:
    built = build(spec("sklearn.decomposition.DictionaryLearning", dict_init=[[1.0, 0.0], [0.0, 1.0]]), seed=0)
    assert isinstance(built.dict_init, np.ndarray)
    built = build(spec("sklearn.cluster.KMeans", init=[[1.0], [2.0]], n_clusters=2), seed=0)
    assert built.init == [[1.0], [2.0]]


def test_functions_and_dtypes_are_the_real_ones() -> None:
    select = spec("sklearn.feature_selection.SelectKBest", score_func=Reference("sklearn.feature_selection.chi2"))
    from sklearn.feature_selection import chi2

    assert build(select, seed=0).score_func is chi2
    assert (
        build(spec("sklearn.preprocessing.OneHotEncoder", dtype=Reference("numpy.float32")), seed=0).dtype is np.float32
    )


def test_experimental_classes_are_built() -> None:
    assert type(build(spec("sklearn.impute.IterativeImputer"), seed=0)).__name__ == "IterativeImputer"
    search = spec("sklearn.model_selection.HalvingGridSearchCV", estimator=SVC, param_grid={"C": [1.0, 2.0]})
    assert type(build(search, seed=0)).__name__ == "HalvingGridSearchCV"


def test_every_class_without_required_parameters_is_built_and_clones() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated classes say so
        for entry in allowlist().entries.values():
            if not entry.is_estimator or any(parameter.required for parameter in entry.params.values()):
                continue
            built = build(EstimatorSpec(path=entry.path), seed=1)
            clone(built)
            if entry.random_state:
                assert built.random_state == 1, entry.path


def test_the_same_spec_and_seed_give_the_same_model() -> None:
    x, y = make_classification(n_samples=120, random_state=0)
    one = pipeline(SCALER, held("sklearn.ensemble.RandomForestClassifier", n_estimators=5))
    first, second = (build(one, seed=11).fit(x, y).predict_proba(x) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, build(one, seed=12).fit(x, y).predict_proba(x))


def test_a_column_selector_selects() -> None:
    import pandas as pd

    numbers = held("sklearn.compose.make_column_selector", dtype_include=["number"])
    transformer = build(spec("sklearn.compose.ColumnTransformer", transformers=[("a", SCALER, numbers)]), seed=0)
    assert transformer.fit_transform(pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})).shape == (2, 1)


VOTING = "sklearn.ensemble.VotingClassifier"
SEARCHED = spec("sklearn.model_selection.GridSearchCV", estimator=ParamValue(object=pipeline(SCALER, SVC)), param_grid={"s1__C": [1.0]})  # fmt: skip


@pytest.mark.parametrize(
    ("one", "kind"),
    [
        (of(FOREST), "classifier"),
        (pipeline(SCALER, LOGISTIC), "classifier"),
        (SEARCHED, "classifier"),
        (spec("sklearn.compose.TransformedTargetRegressor"), "regressor"),
        (spec(VOTING, estimators=[("a", SVC)]), "classifier"),
        (spec("sklearn.feature_selection.RFE", estimator=held("sklearn.linear_model.Ridge")), "regressor"),
        (pipeline(SCALER), "transformer"),
        (spec("sklearn.cluster.KMeans"), "clusterer"),
        (spec("sklearn.ensemble.IsolationForest"), "outlier_detector"),
        (spec("sklearn.pipeline.Pipeline", steps=[("a", SCALER), ("b", "passthrough")]), "unknown"),
    ],
)
def test_the_kind_is_that_of_what_predicts(one: EstimatorSpec, kind: str) -> None:
    assert kind_of(one) == kind


@pytest.mark.parametrize(
    ("one", "weights", "probabilities"),
    [
        (of(FOREST), True, True),
        (of(SVC), True, False),
        (spec("sklearn.svm.SVC", probability=True), True, True),
        (spec("sklearn.neighbors.KNeighborsClassifier"), False, True),
        (pipeline(SCALER, SVC), True, False),
        (pipeline(SCALER, held("sklearn.neighbors.KNeighborsClassifier")), False, True),
        (SEARCHED, True, False),
        (spec(VOTING, estimators=[("a", LOGISTIC), ("b", FOREST)], voting="soft"), True, True),
        (spec(VOTING, estimators=[("a", LOGISTIC), ("b", FOREST)]), True, False),
        (spec(VOTING, estimators=[("a", held("sklearn.neighbors.KNeighborsClassifier"))]), False, False),
        (spec("sklearn.linear_model.SGDClassifier", loss="log_loss"), True, True),
        (spec("sklearn.linear_model.SGDClassifier"), True, False),
        (spec("sklearn.ensemble.StackingClassifier", estimators=[("a", SVC)]), True, True),
    ],
)
def test_weights_and_probabilities_are_known_without_building(
    one: EstimatorSpec, weights: bool, probabilities: bool
) -> None:
    assert accepts_sample_weight(one) is weights
    assert gives(one, "predict_proba") is probabilities
    # Stacking has it only once it is fitted.
    assert hasattr(build(one, seed=0), "predict_proba") is probabilities or one.class_name == "StackingClassifier"


@pytest.mark.parametrize(
    ("one", "missing", "categories"),
    [
        (of(LOGISTIC), False, False),
        (spec("sklearn.ensemble.HistGradientBoostingClassifier"), True, False),
        (pipeline(IMPUTER, LOGISTIC), True, False),
        (pipeline(SCALER, LOGISTIC), False, False),
        (pipeline(SCALER, IMPUTER, LOGISTIC), True, False),
        (pipeline(ONE_HOT, LOGISTIC), False, True),
        (spec("sklearn.compose.ColumnTransformer", transformers=[("a", ONE_HOT, ["x"])]), None, None),
        (
            pipeline(held("sklearn.compose.ColumnTransformer", transformers=[("a", ONE_HOT, ["x"])]), LOGISTIC),
            None,
            None,
        ),
        (spec("sklearn.ensemble.BaggingClassifier", estimator=LOGISTIC), False, False),
    ],
)
def test_what_an_estimator_takes_is_known_without_building(
    one: EstimatorSpec, missing: bool | None, categories: bool | None
) -> None:
    assert takes_missing(one) is missing
    if categories is not None:
        assert takes_categories(one) is categories


@pytest.fixture(scope="module")
def table() -> tuple[Any, Any]:
    x, y = make_classification(n_samples=40, n_features=4, random_state=0)
    return x, y


def test_every_classifier_said_to_take_weights_takes_them(table: tuple[Any, Any]) -> None:
    x, y = np.abs(table[0]), table[1]
    for entry in allowlist().entries.values():
        if entry.kind != "classifier" or not entry.sample_weight or any(p.required for p in entry.params.values()):
            continue
        if entry.path.endswith(("RadiusNeighborsClassifier", "GaussianProcessClassifier", "NuSVC", "CategoricalNB")):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", ConvergenceWarning)
            quick = {name: 3 for name in ("max_iter", "n_estimators") if name in entry.params}
            build(EstimatorSpec(path=entry.path), seed=0).set_params(**quick).fit(x, y, sample_weight=np.ones(len(y)))
