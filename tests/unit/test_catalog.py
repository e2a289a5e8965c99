from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from mlops.jobs.allowlist import allowlist
from mlops.jobs.catalog import MAX_VIOLATIONS, check_estimator
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.literals import Reference, describe, same, to_value, to_values
from mlops.ml import catalog as generator

FIELD = "spec.estimator"


def spec(path: str, **params: object) -> EstimatorSpec:
    return EstimatorSpec(path=path, params=to_values(params))


def held(path: str, **params: object) -> ParamValue:
    return ParamValue(object=spec(path, **params))


SCALER = held("sklearn.preprocessing.StandardScaler")
FOREST = "sklearn.ensemble.RandomForestClassifier"
PIPELINE = "sklearn.pipeline.Pipeline"
SEARCH = "sklearn.model_selection.GridSearchCV"


def violations(one: EstimatorSpec) -> dict[str, str]:
    return {path.removeprefix(FIELD): text for path, text in check_estimator(one, field=FIELD).items()}


def test_the_committed_catalogue_is_what_the_installed_scikit_learn_gives() -> None:
    assert generator.FILE.read_text(encoding="utf-8") == generator.render(), "run python -m mlops.ml.catalog"


def test_every_parameter_of_every_class_has_a_rule() -> None:
    bare = [
        f"{entry.path}.{parameter.name}"
        for entry in allowlist().entries.values()
        for parameter in entry.params.values()
        if not parameter.rules
    ]
    assert bare == []


def test_every_default_obeys_its_own_check() -> None:
    for entry in allowlist().entries.values():
        defaults = {
            name: ParamValue.model_validate(parameter.default)
            for name, parameter in entry.params.items()
            if parameter.default is not None
        }
        found = check_estimator(EstimatorSpec(path=entry.path, params=defaults), field="f")
        assert not [path for path in found if path.removeprefix("f.params[").removesuffix("]") in defaults], found


def test_nothing_in_the_catalogue_takes_a_callers_code_or_a_path_of_the_host() -> None:
    entries = allowlist().entries
    everything = [(entry, name, param) for entry in entries.values() for name, param in entry.params.items()]
    assert all([rule["is"] for rule in p.rules] == ["none"] for _, name, p in everything if name == "memory")
    assert all(p.rules[0]["options"] == ["content"] for _, name, p in everything if name == "input")
    texts = {name for _, name, p in everything if any(rule["is"] == "string" for rule in p.rules)}
    assert texts == {
        "constant", "encoding", "fill_value", "metric", "outlier_label", "pattern", "pos_label", "refit", "resource",
        "separator", "threshold", "token_pattern",
    }  # fmt: skip
    functions = {path for _, _, p in everything for rule in p.rules for path in rule.get("paths", ())}
    assert functions <= allowlist().functions


def test_checking_loads_neither_scikit_learn_nor_numpy() -> None:
    code = (
        "import sys; from mlops.jobs.catalog import check_estimator; from mlops.jobs.estimator import EstimatorSpec; "
        "import mlops.jobs.validation, mlops.client.estimators; "
        "assert not check_estimator(EstimatorSpec(path='sklearn.svm.SVC'), field='f'); "
        "print([name for name in ('sklearn', 'numpy', 'pandas', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_good_spec_has_no_violations() -> None:
    pipeline = held(PIPELINE, steps=[("scale", SCALER), ("svc", held("sklearn.svm.SVC", C=2, kernel="rbf"))])
    search = spec(SEARCH, estimator=pipeline, param_grid={"svc__C": [1, 2.5], "scale": ["passthrough", SCALER]}, cv=3)
    assert violations(search) == {}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("n_estimators", 0, "is 0, but must be an int >= 1"),
        ("n_estimators", 10.0, "is 10.0, but must be an int >= 1"),
        ("n_estimators", True, "is True, but must be an int >= 1"),
        ("n_estimators", None, "is None, but must be an int >= 1"),
        ("max_features", "sqr", "did you mean 'sqrt'?"),
        ("max_features", 1.5, "a float > 0 and <= 1"),
        ("bootstrap", 1, "must be True or False"),
        ("random_state", -1, "an int from 0 to 4294967295"),
        ("random_state", 2**32, "an int from 0 to 4294967295"),
        ("class_weight", [1, {"a": Reference("numpy.log")}], "must be"),
        ("oob_score", Reference("os.system"), "functions are taken only where"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(name: str, value: object, says: str) -> None:
    found = violations(spec(FOREST, **{name: value}))
    assert list(found) == [f".params[{name}]"]
    assert says in found[f".params[{name}]"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_estimators", 1),
        ("max_features", 0.5),
        ("max_features", 3),
        ("max_features", None),
        ("class_weight", {0: 1.0, 1: 2.5}),
        ("class_weight", "balanced"),
        ("random_state", 2**32 - 1),
        ("n_jobs", -1),
        ("verbose", True),
    ],
)
def test_what_scikit_learn_takes_is_taken(name: str, value: object) -> None:
    assert violations(spec(FOREST, **{name: value})) == {}


def test_an_unknown_parameter_is_refused_with_the_nearest_one() -> None:
    found = violations(spec(FOREST, n_estimator=10))
    assert "did you mean 'n_estimators'?" in found[".params[n_estimator]"]


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("os.system", "not on the list"),
        ("sklearn.ensemble.RandomForestClasifier", "did you mean 'sklearn.ensemble.RandomForestClassifier'?"),
        ("sklearn.ensemble._forest.RandomForestClassifier", "did you mean 'sklearn.ensemble.RandomForestClassifier'?"),
        ("sklearn.cluster.Birch", "MiniBatchKMeans"),
        ("sklearn.frozen.FrozenEstimator", "unfitted"),
        ("sklearn.linear_model.MultiTaskLasso", "one; use Lasso"),
    ],
)
def test_an_unknown_class_is_refused_by_name(path: str, says: str) -> None:
    assert says in violations(spec(path))[".path"]


def test_what_is_wrong_inside_a_pipeline_is_found_at_its_place() -> None:
    steps = [("scale", SCALER), ("clf", held("sklearn.linear_model.LogisticRegression", C=-1))]
    assert list(violations(spec(PIPELINE, steps=steps))) == [".params[steps][1][1].params[C]"]


def test_a_required_parameter_that_is_missing_is_named() -> None:
    assert list(violations(spec(SEARCH))) == [".params[estimator]", ".params[param_grid]"]


@pytest.mark.parametrize(
    ("steps", "where"),
    [
        ([], ".params[steps]"),
        ("passthrough", ".params[steps]"),
        ([("a", SCALER), ("a", SCALER)], ".params[steps][1][0]"),
        ([("a__b", SCALER)], ".params[steps][0][0]"),
        ([("memory", SCALER)], ".params[steps][0][0]"),
        ([("a", SCALER, "x")], ".params[steps][0]"),
        ([("a", "drop")], ".params[steps][0][1]"),
        ([("a", held("sklearn.svm.SVC")), ("b", SCALER)], ".params[steps][0][1]"),
        ([("a", held("sklearn.model_selection.KFold"))], ".params[steps][0][1]"),
        ([("a", held("os.system"))], ".params[steps][0][1].path"),
    ],
)
def test_malformed_steps_are_refused_at_their_place(steps: object, where: str) -> None:
    assert list(violations(spec(PIPELINE, steps=steps))) == [where]


@pytest.mark.parametrize("columns", ["a", 0, ["a", "b"], [0, 1], [True, False], held("sklearn.compose.make_column_selector", dtype_include="number")])  # fmt: skip
def test_columns_may_be_names_positions_masks_or_a_selector(columns: object) -> None:
    transformer = spec("sklearn.compose.ColumnTransformer", transformers=[("t", SCALER, columns)])
    assert violations(transformer) == {}


@pytest.mark.parametrize("columns", [None, 1.5, ["a", 1], [["a"]], {"a": 1}, Reference("numpy.log"), SCALER])
def test_other_columns_are_refused(columns: object) -> None:
    transformer = spec("sklearn.compose.ColumnTransformer", transformers=[("t", SCALER, columns)])
    assert list(violations(transformer)) == [".params[transformers][0][2]"]


TEXT = held(PIPELINE, steps=[("tfidf", held("sklearn.feature_extraction.text.TfidfVectorizer")), ("svc", held("sklearn.svm.LinearSVC"))])  # fmt: skip


@pytest.mark.parametrize(
    ("grid", "where", "says"),
    [
        ({"tfidf__input": ["filename"]}, "[tfidf__input][0]", "must be 'content'"),
        ({"memory": ["/tmp/cache"]}, "[memory][0]", "must be None"),
        ({"svc__c": [1]}, "[svc__c]", "did you mean 'C'?"),
        ({"svc__C": []}, "[svc__C]", "a list of values to try"),
        ({"svc__C": 1.0}, "[svc__C]", "a list of values to try"),
        ({"nosuch__C": [1.0]}, "[nosuch__C]", "no parameter"),
        ({"svc": [held("sklearn.svm.SVC", C=0)]}, "[svc][0].params[C]", "must be a number > 0"),
        ({"svc": [held("sklearn.ensemble.RandomForestClassifier")], "svc__n_jobs": [2]}, "[svc__n_jobs]", "resources"),
        (
            {"svc": [held(PIPELINE, steps=[("last", held("sklearn.svm.SVC"))])], "svc__memory": ["/tmp/x"]},
            "[svc__memory][0]",
            "must be None",
        ),
        (
            {
                "svc": [held("sklearn.ensemble.BaggingClassifier")],
                "svc__estimator": [held("sklearn.svm.SVC")],
                "svc__estimator__C": [-1],
            },
            "[svc__estimator__C][0]",
            "must be a number > 0",
        ),
    ],
)
def test_a_grid_cannot_set_what_the_estimator_could_not_be_given(grid: object, where: str, says: str) -> None:
    found = violations(spec(SEARCH, estimator=TEXT, param_grid=grid))
    assert list(found) == [f".params[param_grid]{where}"]
    assert says in next(iter(found.values()))


def test_a_random_search_takes_lists_and_no_distributions() -> None:
    search = "sklearn.model_selection.RandomizedSearchCV"
    assert violations(spec(search, estimator=TEXT, param_distributions={"svc__C": [0.1, 1.0]})) == {}
    drawn = {"svc__C": held("scipy.stats.loguniform", a=0.1, b=10.0)}
    found = violations(spec(search, estimator=TEXT, param_distributions=drawn))
    assert "a list of values to try" in found[".params[param_distributions][svc__C]"]


def test_kernels_and_splitters_are_checked_where_they_stand() -> None:
    rbf = held("sklearn.gaussian_process.kernels.RBF", length_scale=-1.0)
    kernel = held("sklearn.gaussian_process.kernels.Sum", k1=rbf, k2=SCALER)
    found = violations(spec("sklearn.gaussian_process.GaussianProcessRegressor", kernel=kernel))
    assert list(found) == [".params[kernel].params[k1].params[length_scale]", ".params[kernel].params[k2]"]
    found = violations(spec("sklearn.linear_model.LassoCV", cv=held("sklearn.model_selection.KFold", n_splits=1)))
    assert list(found) == [".params[cv].params[n_splits]"]
    assert "rows are kept apart" in violations(spec("sklearn.linear_model.LassoCV", cv=[[[0], [1]]]))[".params[cv]"]
    grouped = held("sklearn.model_selection.GroupKFold")
    assert "group_column" in violations(spec("sklearn.linear_model.LassoCV", cv=grouped))[".params[cv].path"]


def test_depth_and_size_are_bounded() -> None:
    nested = held("sklearn.svm.SVC")
    for _ in range(20):
        nested = held("sklearn.ensemble.BaggingClassifier", estimator=nested)
    assert nested.object is not None
    assert "deeper" in violations(nested.object)[""]
    assert "bytes" in violations(spec(FOREST, class_weight={"x" * 300_000: 1.0}))[""]


def test_a_spec_full_of_mistakes_is_answered_quickly_and_briefly() -> None:
    many = spec(FOREST, **{f"n_estimators_{index}": index for index in range(5000)})
    started = time.perf_counter()
    assert len(violations(many)) == MAX_VIOLATIONS
    tried = [held("sklearn.ensemble.BaggingClassifier") for _ in range(1500)]
    grid = {"clf": tried, "clf__max_samples": list(range(1, 5000))}
    pipeline = held(PIPELINE, steps=[("clf", held("sklearn.svm.SVC"))])
    assert violations(spec(SEARCH, estimator=pipeline, param_grid=grid)) == {}
    assert time.perf_counter() - started < 3


def test_a_usual_spec_is_checked_in_about_a_millisecond() -> None:
    one = spec(SEARCH, estimator=TEXT, param_grid={"svc__C": [0.1, 1.0, 10.0]})
    violations(one)
    started = time.perf_counter()
    for _ in range(50):
        violations(one)
    assert (time.perf_counter() - started) / 50 < 0.01  # 0.7 ms measured; a loaded machine is slower


def test_nan_equals_itself_and_kinds_differ() -> None:
    assert same(to_value(float("nan")), to_value(float("nan")))
    assert same(to_value([float("nan")]), to_value([float("nan")]))
    assert not same(to_value(1), to_value(1.0))
    assert not same(to_value([1]), to_value((1,)))
    assert not same(to_value(0), to_value(False))


def test_long_values_are_cut_in_messages() -> None:
    assert describe(to_value(["x" * 50] * 100)).endswith("…")
    assert len(describe(to_value("x" * 1000))) == 80
    assert json.dumps(describe(to_value({"a": (1, None)}))) == "\"{'a': (1, None)}\""
