"""Rows on their way to a model: frames, tensors, and what comes back."""

from __future__ import annotations

import math
from array import array

import pytest

from mlops.errors import InvalidRequest
from mlops.gateway.serving.frames import decode_frame, encode_frame
from mlops.gateway.serving.inputs import MAX_ROWS, ModelInputs
from mlops.gateway.serving.tensors import decode_tensors, encode_tensors
from mlops.jobs.card import FeatureSpec, LabelType, ModelCard
from mlops.jobs.dataset import ColumnKind
from mlops.jobs.training import Task
from mlops.v1 import models_pb2, serving_pb2
from mlops.v1 import open_inference_pb2 as oip


def card(classes: tuple[str, ...] = (), **kinds: ColumnKind) -> ModelCard:
    features = tuple(FeatureSpec(name=name, kind=kind, required=name != "maybe") for name, kind in kinds.items())
    return ModelCard(
        task=Task.CLASSIFICATION, target="t", features=features, label_type=LabelType.STRING, classes=classes
    )


NUMBERS = ModelInputs(card(a=ColumnKind.NUMERIC, b=ColumnKind.NUMERIC))
MIXED = ModelInputs(card(town=ColumnKind.CATEGORICAL, member=ColumnKind.BOOLEAN, maybe=ColumnKind.NUMERIC))


def frame(**columns: list[object]) -> models_pb2.Frame:
    built = models_pb2.Frame()
    for name, values in columns.items():
        column = built.columns.add(name=name)
        field = {float: "doubles", int: "integers", bool: "booleans", str: "texts"}[type(values[0])]
        getattr(column, field).values.extend(values)
    return built


def rows_of(data: bytes) -> serving_pb2.Rows:
    return serving_pb2.Rows.FromString(data)


@pytest.mark.parametrize("rows", [1, 3])
def test_columns_become_a_matrix_in_the_models_own_order(rows: int) -> None:
    given = frame(b=[float(index) for index in range(rows)], a=[10 + index for index in range(rows)])
    encoded = encode_frame(NUMBERS, given)
    expected = [value for index in range(rows) for value in (10.0 + index, float(index))]
    assert list(array("d", rows_of(encoded.data).matrix)) == expected
    assert (encoded.count, encoded.is_matrix, encoded.warnings) == (rows, True, ())


@pytest.mark.parametrize("rows", [1, 2])
def test_a_missing_number_is_nan_whatever_stands_there(rows: int) -> None:
    inputs = ModelInputs(card(maybe=ColumnKind.NUMERIC, b=ColumnKind.NUMERIC))
    given = frame(maybe=[7.0] * rows, b=[1.0] * rows)
    given.columns[0].missing.append(rows - 1)
    matrix = array("d", rows_of(encode_frame(inputs, given).data).matrix)
    assert math.isnan(matrix[2 * rows - 2])
    assert [value for value in matrix if not math.isnan(value)] == [7.0] * (rows - 1) + [1.0] * rows


def test_other_kinds_travel_as_columns_and_what_may_be_missing_is_filled() -> None:
    given = frame(member=[True, False], town=["Oslo", ""], extra=[1.0, 2.0])
    given.columns[1].missing.append(1)
    encoded = encode_frame(MIXED, given)
    town, member, maybe = rows_of(encoded.data).features
    assert (list(town.texts.values), list(town.missing)) == (["Oslo", ""], [1])
    assert member.booleans == b"\x01\x00"
    assert maybe.WhichOneof("content") is None
    assert encoded.warnings == (
        "columns that are not there count as missing in every row: maybe",
        "columns that the model does not take are ignored: extra",
    )


def test_truth_values_are_texts_to_a_category_and_numbers_to_a_number() -> None:
    inputs = ModelInputs(card(town=ColumnKind.CATEGORICAL, a=ColumnKind.NUMERIC))
    town, number = rows_of(encode_frame(inputs, frame(town=[True, False], a=[True, False])).data).features
    assert list(town.texts.values) == ["true", "false"]
    assert list(array("d", number.numbers)) == [1.0, 0.0]


def test_times_are_seconds_since_1970() -> None:
    inputs = ModelInputs(card(at=ColumnKind.DATETIME))
    given = models_pb2.Frame()
    moment = given.columns.add(name="at").times.values.add()
    moment.FromJsonString("2026-01-02T03:04:05.5Z")
    assert list(array("d", rows_of(encode_frame(inputs, given).data).matrix)) == [1767323045.5]


@pytest.mark.parametrize(
    ("given", "path"),
    [
        (frame(a=[1.0], b=["x"]), "rows.columns[1]"),
        (frame(a=[1.0]), "rows"),
        (frame(a=[1.0, 2.0], b=[1.0]), "rows.columns[1]"),
        (frame(a=[1.0] * (MAX_ROWS + 1), b=[1.0] * (MAX_ROWS + 1)), "rows"),
        (models_pb2.Frame(), "rows"),
        (models_pb2.Frame(columns=[models_pb2.FrameColumn(name="a")]), "rows.columns[0]"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_path(given: models_pb2.Frame, path: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        encode_frame(NUMBERS, given)
    assert list(caught.value.violations) == [path]


@pytest.mark.parametrize("position", [-1, 1])
def test_a_missing_position_outside_of_the_column_is_refused(position: int) -> None:
    given = frame(a=[1.0], b=[1.0])
    given.columns[1].missing.append(position)
    with pytest.raises(InvalidRequest) as caught:
        encode_frame(NUMBERS, given)
    assert list(caught.value.violations) == ["rows.columns[1].missing"]


def test_the_same_columns_with_a_missing_one_are_looked_at_anew() -> None:
    encode_frame(NUMBERS, frame(a=[1.0], b=[1.0]))
    given = frame(a=[1.0], b=[1.0])
    given.columns[0].missing.append(0)
    with pytest.raises(InvalidRequest, match="'a' has no values"):
        encode_frame(NUMBERS, given)


def test_what_the_model_said_is_named_by_its_classes() -> None:
    outputs = serving_pb2.Outputs(
        outputs=[
            serving_pb2.Output(method=models_pb2.PREDICT_METHOD_PREDICT, texts=models_pb2.Texts(values=["no", "yes"])),
            serving_pb2.Output(
                method=models_pb2.PREDICT_METHOD_PREDICT_PROBA,
                columns=2,
                numbers=array("d", [0.75, 0.25, 0.5, 0.5]).tobytes(),
            ),
            serving_pb2.Output(
                method=models_pb2.PREDICT_METHOD_DECISION_FUNCTION, numbers=array("d", [-1.0, 0.0]).tobytes()
            ),
        ]
    )
    found = decode_frame(card(classes=("no", "yes"), a=ColumnKind.NUMERIC), outputs)
    assert [column.name for column in found.columns] == ["prediction", "probability[no]", "probability[yes]", "score"]
    assert list(found.columns[0].texts.values) == ["no", "yes"]
    assert list(found.columns[2].doubles.values) == [0.25, 0.5]
    assert list(found.columns[3].doubles.values) == [-1.0, 0.0]
    response = oip.ModelInferResponse()
    decode_tensors(outputs, 2, response)
    assert [(one.name, one.datatype, list(one.shape)) for one in response.outputs] == [
        ("predict", "BYTES", [2]),
        ("predict_proba", "FP64", [2, 2]),
        ("decision_function", "FP64", [2]),
    ]
    assert response.raw_output_contents[0] == b"\x02\0\0\0no\x03\0\0\0yes"


@pytest.mark.parametrize(
    ("datatype", "code"),
    [("FP64", "d"), ("FP32", "f"), ("INT64", "q"), ("INT8", "b"), ("UINT16", "H"), ("UINT64", "Q")],
)
def test_every_type_of_number_is_taken_raw_and_typed(datatype: str, code: str) -> None:
    typed = oip.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[2, 2])
    field = {"d": "fp64", "f": "fp32", "q": "int64", "b": "int", "H": "uint", "Q": "uint64"}[code]
    getattr(typed.contents, f"{field}_contents").extend([1, 2, 3, 4])
    bare = oip.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=[2, 2])
    raw = array(code, [1, 2, 3, 4]).tobytes()
    for request in (
        oip.ModelInferRequest(inputs=[typed]),
        oip.ModelInferRequest(inputs=[bare], raw_input_contents=[raw]),
    ):
        encoded = encode_tensors(NUMBERS, request)
        assert list(array("d", rows_of(encoded.data).matrix)) == [1.0, 2.0, 3.0, 4.0]


def test_texts_and_truth_values_arrive_as_tensors_of_a_feature_each() -> None:
    tensor = oip.ModelInferRequest.InferInputTensor
    request = oip.ModelInferRequest(
        inputs=[
            tensor(name="town", datatype="BYTES", shape=[2]),
            tensor(name="member", datatype="BOOL", shape=[2, 1]),
            tensor(name="maybe", datatype="FP32", shape=[2]),
        ],
        raw_input_contents=[b"\x04\0\0\0Oslo\0\0\0\0", b"\1\0", array("f", [1, 2]).tobytes()],
    )
    town, member, maybe = rows_of(encode_tensors(MIXED, request).data).features
    assert list(town.texts.values) == ["Oslo", ""]
    assert member.booleans == b"\1\0"
    assert list(array("d", maybe.numbers)) == [1.0, 2.0]


@pytest.mark.parametrize("raw", [b"\x04\0\0\0Osl", b"\x04\0", b"\xff\xff\xff\xff", b"\x02\0\0\0\xff\xfe"])
def test_texts_that_are_cut_or_no_text_are_refused(raw: bytes) -> None:
    tensor = oip.ModelInferRequest.InferInputTensor(name="town", datatype="BYTES", shape=[1])
    with pytest.raises(InvalidRequest):
        encode_tensors(MIXED, oip.ModelInferRequest(inputs=[tensor], raw_input_contents=[raw]))
