"""What a batch inference resolves to, and what it is refused for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from mlops.errors import InvalidRequest
from mlops.jobs.batch_validation import Resolved, check_batch, resolve_batch
from mlops.jobs.card import FeatureSpec, LabelType, ModelCard, PredictMethod
from mlops.jobs.dataset import Column, ColumnKind, DataFormat, Dataset, DatasetProfile
from mlops.jobs.inference import MAX_SHARDS, BatchInferenceSpec, OnBadRow
from mlops.jobs.limits import Limits
from mlops.jobs.model import ModelVersion
from mlops.jobs.training import Resources, Task

ROWS = 1000
LIMITS = Limits(max_cpus=4, max_memory_bytes=8 * 1024**3)
CARD = ModelCard(
    task=Task.CLASSIFICATION,
    target="left",
    features=(
        FeatureSpec(name="age", kind=ColumnKind.NUMERIC),
        FeatureSpec(name="city", kind=ColumnKind.CATEGORICAL, required=False),
    ),
    label_type=LabelType.LONG,
    classes=("0", "1"),
    methods=(PredictMethod.PREDICT, PredictMethod.PREDICT_PROBA),
)
VERSION = ModelVersion(
    model_name="churn",
    version=3,
    created_at=datetime.now(UTC),
    job_id="train-1",
    run_id="r",
    owner="ada",
    dataset_id="",
    dataset_sha256="",
    estimator="",
    task="classification",
)


def column(name: str, kind: ColumnKind, *, nulls: int = 0) -> Column:
    return Column(name=name, kind=kind, arrow_type="double", null_count=nulls)


def a_dataset(*columns: Column) -> Dataset:
    return Dataset(
        id="ds-" + "0" * 32,
        name="people",
        sha256="0" * 64,
        size_bytes=1,
        profile=DatasetProfile(
            format=DataFormat.CSV,
            rows=ROWS,
            columns=columns
            or (
                column("id", ColumnKind.NUMERIC),
                column("age", ColumnKind.NUMERIC),
                column("city", ColumnKind.TEXT),
                column("left", ColumnKind.NUMERIC),
            ),
            stored_bytes=1,
        ),
        owner="ada",
        created_at=datetime.now(UTC),
    )


def resolved(dataset: Dataset | None = None, **given: Any) -> Resolved:
    spec = BatchInferenceSpec(**{"model": "churn", "dataset": "people", **given})
    return resolve_batch(
        spec,
        version=VERSION,
        model_id="m-0",
        card=CARD,
        dataset=dataset or a_dataset(),
        limits=LIMITS,
        max_bytes=10**9,
    )


def violations(dataset: Dataset | None = None, **given: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        resolved(dataset, **given)
    return refused.value.violations


def test_a_plan_names_the_version_that_was_resolved() -> None:
    plan = resolved(alias="champion", carry=("id",), target="left").plan
    assert (plan.model_name, plan.model_version, plan.model_alias) == ("churn", 3, "champion")
    assert (plan.dataset_id, plan.rows, plan.name) == ("ds-" + "0" * 32, ROWS, "churn")
    assert plan.outputs == (PredictMethod.PREDICT,)


def test_columns_that_do_not_fit_are_refused_before_any_work_each_by_its_name() -> None:
    wrong = a_dataset(column("age", ColumnKind.TEXT), column("city", ColumnKind.NUMERIC))
    assert violations(wrong) == {
        "spec.dataset[age]": "is text: the model takes numeric",
        "spec.dataset[city]": "is numeric: the model takes categorical",
    }
    missing = a_dataset(column("city", ColumnKind.TEXT))
    assert "spec.dataset[age]" in violations(missing)


def test_a_required_column_without_any_value_is_refused_and_an_optional_one_is_not() -> None:
    empty = a_dataset(column("age", ColumnKind.NUMERIC, nulls=ROWS), column("city", ColumnKind.NUMERIC, nulls=ROWS))
    assert list(violations(empty)) == ["spec.dataset[age]"]


def test_ignored_and_filled_columns_are_said() -> None:
    found = resolved(a_dataset(column("age", ColumnKind.BOOLEAN), column("shoe", ColumnKind.NUMERIC)))
    assert found.warnings == (
        "columns that are not there count as missing in every row: city",
        "columns that the model does not take are ignored: shoe",
    )
    assert resolved(carry=("*",)).warnings == ()
    assert resolved(carry=("id",), target="left").warnings == ()


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"uri": "s3://bucket/x.parquet"}, "spec.uri", "beside a dataset"),
        ({"version": 1, "alias": "champion"}, "spec.alias", "beside a version"),
        ({"outputs": ("decision_function",)}, "spec.outputs[0]", "no decision_function; it has predict"),
        ({"outputs": ("predict", "predict")}, "spec.outputs", "twice"),
        ({"carry": ("id", "id")}, "spec.carry", "twice"),
        ({"carry": ("ide",)}, "spec.carry[0]", "no column 'ide'"),
        ({"target": "leftt"}, "spec.target", "no column 'leftt'"),
        ({"max_rejects": 3}, "spec.max_rejects", "on_bad_row"),
        ({"resources": Resources(cpus=5)}, "spec.resources.cpus", "more than 4"),
        ({"resources": Resources(memory_bytes=9 * 1024**3)}, "spec.resources.memory_bytes", "max_job_memory_bytes"),
        ({"labels": {"a=b": "c"}}, "spec.labels[a=b]", "is no key"),
        ({"name": " "}, "spec.name", "is no name"),
    ],
)
def test_what_breaks_a_rule_is_refused_with_its_path(given: dict[str, Any], field: str, said: str) -> None:
    found = violations(**given)
    assert said in found[field]


def test_a_file_is_not_cut_into_more_shards_than_can_be_summed_up() -> None:
    big = a_dataset()
    profile = big.profile.model_copy(update={"rows": MAX_SHARDS * 10 + 1})
    found = violations(big.model_copy(update={"profile": profile}), rows_per_shard=10)
    assert "give at least 11" in found["spec.rows_per_shard"]


def test_what_a_spec_says_by_itself_is_refused_without_looking_anything_up() -> None:
    with pytest.raises(InvalidRequest, match="required, or a uri"):
        check_batch(BatchInferenceSpec(model="churn"))
    check_batch(BatchInferenceSpec(model="churn", uri="/x", on_bad_row=OnBadRow.REJECT, max_rejects=0))
