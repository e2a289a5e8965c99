"""Messages to values and back."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from types import NoneType
from typing import get_args

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mlops.errors import InvalidRequest
from mlops.jobs import dataset, estimator, job, model, report, training
from mlops.tenants import tenant
from mlops.v1 import datasets_pb2, estimator_pb2, jobs_pb2, models_pb2, tenants_pb2
from mlops.wire import datasets, jobs
from mlops.wire.convert import build, parse, to_plain
from mlops.wire.decode import decode
from mlops.wire.fields import Holder, Shape, fields_of
from tests.fixtures.values import values

PAIRS: list[tuple[type[Message], type[BaseModel]]] = [
    (datasets_pb2.ReadOptions, dataset.ReadOptions),
    (datasets_pb2.ValueCount, dataset.ValueCount),
    (datasets_pb2.Column, dataset.Column),
    (datasets_pb2.DatasetProfile, dataset.DatasetProfile),
    (datasets_pb2.Dataset, dataset.Dataset),
    (estimator_pb2.EstimatorSpec, estimator.EstimatorSpec),
    (jobs_pb2.Validation, training.Validation),
    (jobs_pb2.Resources, training.Resources),
    (jobs_pb2.TrainingSpec, training.TrainingSpec),
    (jobs_pb2.TrainingPlan, training.TrainingPlan),
    (jobs_pb2.StepProgress, job.StepProgress),
    (jobs_pb2.JobFailure, job.JobFailure),
    (jobs_pb2.MetricSummary, report.MetricSummary),
    (jobs_pb2.Curve, report.Curve),
    (jobs_pb2.ConfusionMatrix, report.ConfusionMatrix),
    (jobs_pb2.ResidualSummary, report.ResidualSummary),
    (jobs_pb2.Importance, report.Importance),
    (jobs_pb2.TrainingReport, report.TrainingReport),
    (jobs_pb2.TrainingResult, report.TrainingResult),
    (jobs_pb2.Job, job.Job),
    (jobs_pb2.JobFilter, job.JobFilter),
    (jobs_pb2.ValidateTrainingResponse, job.Validated),
    (models_pb2.SignatureColumn, model.SignatureColumn),
    (models_pb2.Signature, model.Signature),
    (models_pb2.Model, model.Model),
    (models_pb2.ModelVersion, model.ModelVersion),
    (tenants_pb2.Quota, tenant.Quota),
    (tenants_pb2.Tenant, tenant.Tenant),
    (tenants_pb2.ApiKey, tenant.ApiKey),
]
NAMES = [message.DESCRIPTOR.name for message, _ in PAIRS]


def same(left: BaseModel, right: BaseModel) -> bool:
    """Equal, with NaN equal to itself. (A map on the wire has no order, as a dict's equality has none.)"""
    return left == right or _text(left) == _text(right)


def _text(value: BaseModel) -> str:
    return json.dumps(value.model_dump(mode="json"), sort_keys=True)


@pytest.mark.parametrize(("message", "value"), PAIRS, ids=NAMES)
def test_messages_and_values_have_the_same_fields(message: type[Message], value: type[BaseModel]) -> None:
    assert set(fields_of(message.DESCRIPTOR)) == set(value.model_fields)


@pytest.mark.parametrize(("message", "value"), PAIRS, ids=NAMES)
def test_what_may_be_none_can_be_left_out_of_its_message(message: type[Message], value: type[BaseModel]) -> None:
    for name, field in fields_of(message.DESCRIPTOR).items():
        if NoneType in get_args(value.model_fields[name].annotation):
            assert field.has_presence or field.shape is Shape.ENUM, name
        elif field.holder is Holder.ONE and field.shape is Shape.SCALAR and field.has_presence:
            assert not value.model_fields[name].is_required(), name


@pytest.mark.parametrize(("message", "value"), PAIRS, ids=NAMES)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_value_survives_the_wire(message: type[Message], value: type[BaseModel], data: st.DataObject) -> None:
    original = data.draw(values(value))
    sent = message.FromString(build(message, original).SerializeToString())
    assert same(parse(sent, value), original)


@settings(max_examples=10, deadline=None)
@given(values(job.JobPage))
def test_a_page_of_jobs_survives_the_wire(page: job.JobPage) -> None:
    sent = jobs_pb2.ListJobsResponse.FromString(jobs.build_page(page).SerializeToString())
    assert same(jobs.parse_page(sent), page)


WHEN = datetime(2026, 1, 2, tzinfo=UTC)
EVENTS = [
    job.JobEvent(cursor="1", time=WHEN, state=job.JobState.RUNNING),
    job.JobEvent(cursor="2", time=WHEN, step=job.StepProgress(step="fit", state=job.StepState.RUNNING, fraction=0.0)),
    job.JobEvent(cursor="3", time=WHEN, metrics={"r2": 0.5}, metrics_step="fold-1"),
    job.JobEvent(cursor="4", time=WHEN, metrics={}, metrics_step="fold-1"),
    job.JobEvent(
        cursor="5",
        time=WHEN,
        job=job.Job(id="a", kind=job.JobKind.TRAINING, name="a", owner="b", state=job.JobState.FAILED, created_at=WHEN),
    ),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.cursor)
def test_an_event_survives_the_wire(event: job.JobEvent) -> None:
    sent = jobs_pb2.WatchJobResponse.FromString(jobs.build_event(event).SerializeToString())
    assert jobs.parse_event(sent) == event


def test_an_event_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="kind that this version does not know"):
        jobs.parse_event(jobs_pb2.WatchJobResponse(cursor="1"))


def test_a_preview_tells_missing_from_empty() -> None:
    preview = dataset.DatasetPreview(columns=("a", "b"), rows=(("", None), ("1", "x")))
    assert datasets.parse_preview(datasets.build_preview(preview)) == preview


def test_a_preview_with_a_missing_position_outside_its_row_is_refused() -> None:
    row = datasets_pb2.PreviewRow(values=["a"], missing=[1])
    with pytest.raises(InvalidRequest, match="position 1 of 1"):
        datasets.parse_preview(datasets_pb2.PreviewDatasetResponse(columns=["a"], rows=[row]))


def test_all_violations_arrive_in_one_error_by_their_paths() -> None:
    message = jobs_pb2.TrainingSpec(
        dataset="d",
        validation=jobs_pb2.Validation(folds=99),
        task=7,  # type: ignore[arg-type]  # a number that no version knows
        max_attempts=11,
        seed=-1,
        estimator=estimator_pb2.EstimatorSpec(
            path="sklearn.svm.SVC",
            params={"C": estimator_pb2.ParamValue(), "kernel": estimator_pb2.ParamValue(none=False)},
        ),
    )
    message.time_limit.seconds = -5
    with pytest.raises(InvalidRequest) as caught:
        parse(message, training.TrainingSpec, prefix="spec")
    assert set(caught.value.violations) == {
        "spec.target",
        "spec.validation.folds",
        "spec.task",
        "spec.max_attempts",
        "spec.seed",
        "spec.time_limit",
        "spec.estimator.params[C]",
        "spec.estimator.params[kernel].none",
    }
    assert "got 99" in caught.value.violations["spec.validation.folds"]


def test_positions_and_keys_stand_in_brackets() -> None:
    message = datasets_pb2.ReadOptions(column_kinds={"age": datasets_pb2.COLUMN_KIND_UNSPECIFIED})
    with pytest.raises(InvalidRequest) as caught:
        parse(message, dataset.ReadOptions)
    assert set(caught.value.violations) == {"column_kinds[age]"}
    with pytest.raises(InvalidRequest) as caught:
        parse(jobs_pb2.JobFilter(states=[1, 0]), job.JobFilter, prefix="filter")  # type: ignore[list-item]
    assert set(caught.value.violations) == {"filter.states[1]"}


def test_what_is_left_out_takes_the_domains_default() -> None:
    spec = parse(jobs_pb2.TrainingSpec(dataset="d", target="t"), training.TrainingSpec)
    assert spec == training.TrainingSpec(dataset="d", target="t")


def test_an_explicit_zero_is_not_left_out() -> None:
    message = jobs_pb2.TrainingSpec(dataset="d", target="t", validation=jobs_pb2.Validation(holdout_fraction=0.0))
    assert parse(message, training.TrainingSpec).validation.holdout_fraction == 0.0
    assert to_plain(estimator_pb2.ParamValue(integer=0)) == {"integer": 0}


@pytest.mark.parametrize("seconds", [2**62, -(2**62)])
def test_times_out_of_range_are_refused_with_everything_else(seconds: int) -> None:
    message = jobs_pb2.JobFilter(states=[9])  # type: ignore[list-item]
    message.created_after.seconds = seconds
    with pytest.raises(InvalidRequest) as caught:
        parse(message, job.JobFilter)
    assert set(caught.value.violations) == {"states[0]", "created_after"}
    with pytest.raises(InvalidRequest):
        to_plain(message)


def _nested(levels: int) -> estimator_pb2.EstimatorSpec:
    outer = estimator_pb2.EstimatorSpec(path="a")
    inner = outer
    for _ in range(levels - 1):
        inner = inner.params["e"].object
        inner.path = "a"
    return outer


def test_estimators_are_nested_no_deeper_than_the_bound() -> None:
    bound = estimator.MAX_ESTIMATOR_DEPTH
    assert parse(_nested(bound), estimator.EstimatorSpec)
    with pytest.raises(InvalidRequest, match="deep"):
        parse(_nested(bound + 1), estimator.EstimatorSpec)


@pytest.mark.parametrize("levels", [150, 3000])
def test_lists_nested_without_end_are_refused_before_anything_recurses(levels: int) -> None:
    outer = estimator_pb2.ParamValue()
    inner = outer
    for _ in range(levels):
        inner = inner.list.items.add()
    inner.integer = 1
    with pytest.raises(InvalidRequest, match="deep"):
        parse(outer, estimator.ParamValue)


def test_a_value_nested_without_end_is_not_sent() -> None:
    value = estimator.ParamValue(integer=1)
    for _ in range(120):
        value = estimator.ParamValue(list=estimator.ParamList(items=(value,)))
    with pytest.raises(InvalidRequest, match="deep"):
        build(estimator_pb2.ParamValue, value)


def test_what_the_wire_cannot_carry_is_named_by_its_path() -> None:
    def spec(value: estimator.ParamValue) -> training.TrainingSpec:
        estimator_spec = estimator.EstimatorSpec(path="a", params={"n": value})
        return training.TrainingSpec(dataset="d", target="t", estimator=estimator_spec)

    with pytest.raises(InvalidRequest) as caught:
        build(jobs_pb2.TrainingSpec, spec(estimator.ParamValue(integer=2**63)))
    assert set(caught.value.violations) == {"estimator.params[n].integer"}
    with pytest.raises(InvalidRequest) as caught:
        build(jobs_pb2.TrainingSpec, spec(estimator.ParamValue.model_construct(string="\ud800")))
    assert set(caught.value.violations) == {"estimator.params[n].string"}


def test_nan_and_infinity_cross_the_wire() -> None:
    importance = report.Importance(feature="a", importance=math.nan, deviation=math.inf)
    back = parse(build(jobs_pb2.Importance, importance), report.Importance)
    assert math.isnan(back.importance)
    assert back.deviation == math.inf


def test_times_of_other_zones_arrive_in_utc() -> None:
    there = datetime(2026, 5, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    back = parse(build(jobs_pb2.JobFilter, job.JobFilter(created_after=there)), job.JobFilter)
    assert back.created_after == there
    assert back.created_after is not None
    assert back.created_after.utcoffset() == timedelta(0)


@pytest.mark.parametrize(("message", "value"), PAIRS, ids=NAMES)
@settings(max_examples=30, deadline=None)
@given(raw=st.binary(max_size=200))
def test_bytes_of_any_kind_give_a_value_or_an_invalid_request(
    message: type[Message], value: type[BaseModel], raw: bytes
) -> None:
    try:
        parse(decode(message, raw), value)
    except InvalidRequest as error:
        assert error.message  # noqa: PT017  # either outcome is right


def test_a_nul_character_is_refused_by_its_path() -> None:
    spec = jobs_pb2.TrainingSpec(dataset="d\0", features=["a", "b\0"], labels={"k": "\0"})
    request = jobs_pb2.SubmitTrainingRequest(request_id="a", spec=spec)
    with pytest.raises(InvalidRequest) as caught:
        decode(jobs_pb2.SubmitTrainingRequest, request.SerializeToString())
    assert set(caught.value.violations) == {"spec.dataset", "spec.features[1]", "spec.labels['k']"}


def test_a_chunk_may_hold_any_bytes() -> None:
    request = datasets_pb2.UploadDatasetRequest(chunk=b"\0\0")
    assert decode(datasets_pb2.UploadDatasetRequest, request.SerializeToString()).chunk == b"\0\0"


@pytest.mark.parametrize("raw", [b"\xff\xff", b"\x0a\x02\xff\xfe"], ids=["no message", "no UTF-8"])
def test_bytes_that_are_no_message_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="no valid GetJobRequest"):
        decode(jobs_pb2.GetJobRequest, raw)
