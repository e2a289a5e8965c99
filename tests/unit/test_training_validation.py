from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.errors import InvalidRequest
from mlops.jobs.dataset import Column, ColumnKind, DataFormat, Dataset, DatasetProfile, ValueCount
from mlops.jobs.estimator import EstimatorSpec, ParamValue
from mlops.jobs.limits import Limits
from mlops.jobs.literals import to_values
from mlops.jobs.training import GIB, Resources, Splitter, Task, TrainingPlan, TrainingSpec, Validation
from mlops.jobs.validation import fingerprint, resolve, warnings_of

LIMITS = Limits(max_cpus=4, max_memory_bytes=8 * GIB)
ROWS = 100


def numeric(name: str, **about: Any) -> Column:
    given = {"distinct_count": 90, "minimum": -1.0, "maximum": 1.0, "arrow_type": "double"} | about
    return Column(name=name, kind=ColumnKind.NUMERIC, **given)


def classes(name: str, *counts: tuple[str, int], kind: ColumnKind = ColumnKind.CATEGORICAL, arrow: str = "") -> Column:
    top = tuple(ValueCount(value=value, count=count) for value, count in counts)
    return Column(name=name, kind=kind, arrow_type=arrow or "dictionary", distinct_count=len(top), top_values=top)


COLUMNS = (
    numeric("age"),
    numeric("income"),
    numeric("price", minimum=0.5, maximum=9.0),
    numeric("holes", null_count=70),
    numeric("weight", minimum=0.0, maximum=3.0),
    numeric("minus", minimum=-2.0),
    numeric("same", distinct_count=1),
    numeric("id", arrow_type="int64", distinct_count=ROWS, minimum=1.0, maximum=100.0),
    classes("digit", *((str(one), 10) for one in range(10)), kind=ColumnKind.NUMERIC, arrow="int64"),
    classes("species", ("a", 50), ("b", 30), ("c", 20)),
    classes("rare", ("a", 97), ("b", 3)),
    classes("yes", ("false", 40), ("true", 60), kind=ColumnKind.BOOLEAN, arrow="bool"),
    classes("zero_one", ("0", 40), ("1", 60), kind=ColumnKind.NUMERIC, arrow="int64"),
    classes("team", ("x", 50), ("y", 30), ("z", 20)),
    Column(name="note", kind=ColumnKind.TEXT, arrow_type="large_string", distinct_count=ROWS),
    Column(name="when", kind=ColumnKind.DATETIME, arrow_type="timestamp[us, tz=UTC]", distinct_count=ROWS),
    Column(name="late", kind=ColumnKind.DATETIME, arrow_type="timestamp[us, tz=UTC]", distinct_count=9, null_count=5),
)
DATASET = Dataset(
    id="ds-" + "0" * 32,
    name="people",
    sha256="0" * 64,
    size_bytes=1,
    profile=DatasetProfile(format=DataFormat.CSV, rows=ROWS, columns=COLUMNS, stored_bytes=1),
    owner="ada",
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def est(path: str, **params: object) -> EstimatorSpec:
    return EstimatorSpec(path=path, params=to_values(params))


def held(path: str, **params: object) -> ParamValue:
    return ParamValue(object=est(path, **params))


FOREST = est("sklearn.ensemble.RandomForestClassifier")
RIDGE = est("sklearn.linear_model.Ridge")
NEIGHBOURS = est("sklearn.neighbors.KNeighborsClassifier")
LINEAR_SVC = est("sklearn.svm.LinearSVC")
PERCEPTRON_PIPELINE = est(
    "sklearn.pipeline.Pipeline",
    steps=[("s", held("sklearn.preprocessing.StandardScaler")), ("clf", held("sklearn.linear_model.Ridge"))],
)


def plan(**asked: Any) -> TrainingPlan:
    return resolve(TrainingSpec(**({"dataset": "people", "target": "species"} | asked)), DATASET, LIMITS)


def refused(**asked: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as error:
        plan(**asked)
    assert all(path.startswith("spec.") for path in error.value.violations)
    return error.value.violations


def only(violations: dict[str, str], path: str) -> str:
    assert list(violations) == [path], violations
    return violations[path]


def test_a_bare_spec_gets_sensible_choices() -> None:
    made = plan()
    assert made.task is Task.CLASSIFICATION
    assert made.splitter is Splitter.STRATIFIED
    assert (made.folds, made.holdout_fraction) == (0, 0.2)
    assert made.scoring == ("accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss")
    assert made.estimator.class_name == "Pipeline"
    assert made.name == "Pipeline(HistGradientBoostingClassifier)"
    assert {column.name for column in made.features} == {column.name for column in COLUMNS} - {"species"}
    assert (made.dataset_id, made.dataset_sha256, made.dataset_rows) == (DATASET.id, DATASET.sha256, ROWS)


def test_columns_with_another_role_are_no_features() -> None:
    made = plan(weight_column="weight", group_column="team", time_column="when", validation=Validation(splitter=Splitter.GROUPED))  # fmt: skip
    assert not {"species", "weight", "team", "when"} & {column.name for column in made.features}


def test_chosen_features_keep_their_order() -> None:
    assert [column.name for column in plan(features=("income", "age")).features] == ["income", "age"]


@pytest.mark.parametrize(
    ("target", "task"),
    [("species", Task.CLASSIFICATION), ("yes", Task.CLASSIFICATION), ("digit", Task.CLASSIFICATION), ("price", Task.REGRESSION)],
)  # fmt: skip
def test_the_task_is_inferred_from_the_target(target: str, task: Task) -> None:
    assert plan(target=target).task is task


def test_the_estimator_decides_on_the_task_before_the_target_does() -> None:
    assert plan(target="digit", estimator=RIDGE).task is Task.REGRESSION
    assert plan(target="digit", estimator=PERCEPTRON_PIPELINE).task is Task.REGRESSION


@pytest.mark.parametrize(
    ("target", "estimator", "scoring"),
    [
        ("yes", FOREST, ("accuracy", "f1_macro", "roc_auc", "neg_log_loss")),
        ("yes", LINEAR_SVC, ("accuracy", "f1_macro", "roc_auc")),
        ("species", LINEAR_SVC, ("accuracy", "f1_macro")),
        ("species", FOREST, ("accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss")),
        ("price", RIDGE, ("r2", "neg_root_mean_squared_error", "neg_mean_absolute_error")),
    ],
)
def test_default_scorers_suit_target_and_estimator(target: str, estimator: EstimatorSpec, scoring: Any) -> None:
    assert plan(target=target, estimator=estimator).scoring == scoring


def test_the_splitter_follows_the_columns_given() -> None:
    assert plan(target="price").splitter is Splitter.SHUFFLED
    assert plan(group_column="team").splitter is Splitter.GROUPED
    assert plan(time_column="when").splitter is Splitter.TIME_SERIES
    assert plan(validation=Validation(folds=5)).holdout_fraction == 0


def test_everything_that_is_wrong_is_said_at_once() -> None:
    found = refused(
        target="specis",
        features=("age", "ag"),
        estimator=est("sklearn.svm.SVC", C=-1),
        model_name="a/b",
        resources=Resources(cpus=64, memory_bytes=9 * GIB),
        labels={"a=b": "x"},
    )
    assert set(found) == {
        "spec.target",
        "spec.features[1]",
        "spec.estimator.params[C]",
        "spec.model_name",
        "spec.resources.cpus",
        "spec.resources.memory_bytes",
        "spec.labels[a=b]",
    }
    assert "did you mean 'species'?" in found["spec.target"]
    assert "max_job_cpus" in found["spec.resources.cpus"]


@pytest.mark.parametrize(
    ("asked", "path", "says"),
    [
        ({"target": "same", "task": Task.REGRESSION}, "spec.target", "same value in every row"),
        ({"target": "when", "task": Task.REGRESSION}, "spec.target", "datetime"),
        ({"target": "species", "task": Task.REGRESSION}, "spec.target", "numeric target"),
        ({"target": "price", "task": Task.CLASSIFICATION}, "spec.target", "not whole"),
        ({"target": "note"}, "spec.target", "100 different values"),
        ({"target": "species", "features": ("species", "age")}, "spec.features[0]", "is the target already"),
        ({"features": ("age", "age")}, "spec.features[1]", "named twice"),
        ({"features": ("age", "team"), "group_column": "team"}, "spec.features[1]", "group column already"),
        ({"weight_column": "species"}, "spec.weight_column", "is the target already"),
        ({"weight_column": "team"}, "spec.weight_column", "weights are numbers"),
        ({"weight_column": "minus"}, "spec.weight_column", "down to -2"),
        ({"weight_column": "holes"}, "spec.weight_column", "70 missing values"),
        ({"weight_column": "weight", "estimator": NEIGHBOURS}, "spec.weight_column", "takes no sample weights"),
        ({"weight_column": "wait"}, "spec.weight_column", "did you mean 'weight'?"),
        ({"time_column": "team"}, "spec.time_column", "ordered by a datetime or a number"),
        ({"time_column": "late"}, "spec.time_column", "5 missing values"),
        ({"validation": Validation(splitter=Splitter.GROUPED)}, "spec.group_column", "is needed"),
        ({"validation": Validation(splitter=Splitter.TIME_SERIES)}, "spec.time_column", "is needed"),
        ({"group_column": "team", "time_column": "when"}, "spec.validation.splitter", "which to go by"),
        (
            {"target": "price", "validation": Validation(splitter=Splitter.STRATIFIED)},
            "spec.validation.splitter",
            "needs classes",
        ),
        ({"validation": Validation(folds=1)}, "spec.validation.folds", "is 1"),
        ({"validation": Validation(folds=21)}, "spec.validation.folds", "rarest class 'c' has 20"),
        (
            {"validation": Validation(folds=5, holdout_fraction=0.5), "target": "rare"},
            "spec.validation.folds",
            "rarest class 'b' has 2",
        ),
        ({"validation": Validation(folds=4), "group_column": "team"}, "spec.validation.folds", "at most 3 groups"),
        ({"target": "price", "validation": Validation(holdout_fraction=0.999)}, "spec.validation.holdout_fraction", "none of 100"),
        ({"task": Task.REGRESSION, "estimator": FOREST}, "spec.task", "is for classification"),
        ({"estimator": est("sklearn.preprocessing.StandardScaler")}, "spec.estimator", "is a transformer"),
        ({"estimator": est("sklearn.cluster.KMeans")}, "spec.estimator", "is a clusterer"),
        ({"estimator": est("os.system")}, "spec.estimator.path", "not on the list"),
        ({"scoring": ("acuracy",)}, "spec.scoring[0]", "did you mean 'accuracy'?"),
        ({"scoring": ("accuracy", "r2")}, "spec.scoring[1]", "judges regression"),
        ({"scoring": ("accuracy", "accuracy")}, "spec.scoring[1]", "named twice"),
        ({"scoring": ("roc_auc",)}, "spec.scoring[0]", "try 'roc_auc_ovr'"),
        ({"scoring": ("f1",), "target": "rare"}, "spec.scoring[0]", "try 'f1_macro'"),
        ({"scoring": ("neg_log_loss",), "estimator": LINEAR_SVC}, "spec.scoring[0]", "needs predict_proba"),
        ({"scoring": ("neg_mean_gamma_deviance",), "target": "age"}, "spec.scoring[0]", "needs targets > 0"),
        ({"model_name": ""}, "spec.model_name", "no model name"),
        ({"model_name": "x\n"}, "spec.model_name", "no model name"),
        ({"name": "  "}, "spec.name", "no name"),
        ({"labels": {"team": "x" * 201}}, "spec.labels[team]", "201 characters"),
        ({"labels": {"team": "a\x7fb"}}, "spec.labels[team]", "control characters"),
        ({"resources": Resources(cpus=5)}, "spec.resources.cpus", "is 5, more than 4 (max_job_cpus)"),
    ],
)  # fmt: skip
def test_one_mistake_is_found_at_its_place(asked: dict[str, Any], path: str, says: str) -> None:
    assert says in only(refused(**asked), path)


@pytest.mark.parametrize(
    "asked",
    [
        {"scoring": ("f1", "roc_auc", "average_precision"), "target": "yes"},
        {"scoring": ("f1", "precision"), "target": "zero_one"},
        {"validation": Validation(folds=20)},
        {"validation": Validation(folds=3, splitter=Splitter.SHUFFLED), "target": "rare"},
        {"weight_column": "weight", "estimator": FOREST},
        {"model_name": "Churn v2.1_x-y", "labels": {"team/area": "risk"}, "name": "näme"},
        {"target": "price", "scoring": ("neg_mean_gamma_deviance",)},
        {"resources": Resources(cpus=4, memory_bytes=8 * GIB)},
        {"validation": Validation(holdout_fraction=0.0)},
    ],
)
def test_what_is_fine_is_accepted(asked: dict[str, Any]) -> None:
    plan(**asked)


def test_thousands_of_mistakes_are_answered_quickly_and_briefly() -> None:
    started = perf_counter()
    assert len(refused(features=tuple(f"colum_{index}" for index in range(20_000)))) < 60
    assert perf_counter() - started < 2


def test_a_pipeline_without_an_end_trains_nothing() -> None:
    hollow = est("sklearn.pipeline.Pipeline", steps=[("a", "passthrough")])
    assert "nothing that predicts" in only(refused(estimator=hollow), "spec.estimator")


def test_equal_requests_have_equal_fingerprints_and_others_do_not() -> None:
    one = TrainingSpec(dataset="d", target="t", labels={"a": "1", "b": "2"})
    same = TrainingSpec(dataset="d", target="t", labels={"b": "2", "a": "1"})
    assert fingerprint(one) == fingerprint(same)
    assert len(fingerprint(one)) == 64
    others = [one.model_copy(update={"seed": 1}), one.model_copy(update={"labels": {}})]
    integer, number = (one.model_copy(update={"estimator": est("sklearn.svm.SVC", C=value)}) for value in (1, 1.0))
    assert len({fingerprint(value) for value in (one, *others, integer, number)}) == 5


def warned(**asked: Any) -> str:
    return "\n".join(warnings_of(plan(**asked), DATASET))


def test_suspicious_things_are_mentioned_and_allowed() -> None:
    text = warned()
    assert "'id' have a different value" in text
    assert "'holes' are missing in more than half" in text
    assert "'same' have the same value" in text
    assert "numbers only" not in text
    text = warned(estimator=est("sklearn.linear_model.LogisticRegression"))
    assert "LogisticRegression takes numbers only, but 'rare', 'team', 'note' hold texts" in text
    assert "LogisticRegression takes no missing values, but 'holes', 'late' have some" in text
    assert "no metrics" in warned(validation=Validation(holdout_fraction=0.0))
    assert "does not use it" in warned(group_column="team", validation=Validation(splitter=Splitter.SHUFFLED))
    assert "expect overfitting" in warned(features=tuple(c.name for c in COLUMNS if c.name != "species"), validation=Validation(holdout_fraction=0.9, splitter=Splitter.SHUFFLED))  # fmt: skip


def test_nothing_is_said_where_nothing_stands_out() -> None:
    assert warned(features=("age", "income")) == ""


NAMES = st.sampled_from([column.name for column in COLUMNS] + ["nope", "é" * 20])


@settings(max_examples=300, deadline=None)
@given(
    target=NAMES,
    features=st.lists(NAMES, max_size=4),
    weight=st.none() | NAMES,
    group=st.none() | NAMES,
    time=st.none() | NAMES,
    estimator=st.sampled_from([None, FOREST, RIDGE, NEIGHBOURS, LINEAR_SVC, PERCEPTRON_PIPELINE, est("x"), est("sklearn.cluster.KMeans")]),
    task=st.none() | st.sampled_from(list(Task)),
    validation=st.builds(Validation, folds=st.integers(0, 50), holdout_fraction=st.none() | st.floats(0, 0.99), splitter=st.none() | st.sampled_from(list(Splitter))),
    scoring=st.lists(st.sampled_from(["accuracy", "r2", "roc_auc", "neg_log_loss", "rand_score", "x"]), max_size=3),
)  # fmt: skip
def test_any_request_is_resolved_or_refused_with_its_violations(
    target: str, features: list[str], weight: str | None, group: str | None, time: str | None,
    estimator: EstimatorSpec | None, task: Task | None, validation: Validation, scoring: list[str],
) -> None:  # fmt: skip
    spec = TrainingSpec(
        dataset="people", target=target, features=tuple(features), weight_column=weight, group_column=group,
        time_column=time, estimator=estimator, task=task, validation=validation, scoring=tuple(scoring),
    )  # fmt: skip
    try:
        made = resolve(spec, DATASET, LIMITS)
    except InvalidRequest as error:
        paths = list(error.violations)
    else:
        paths = []
        warnings_of(made, DATASET)
        assert TrainingPlan.model_validate_json(made.model_dump_json()) == made
    assert all(path.startswith("spec.") for path in paths)
