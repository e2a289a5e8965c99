"""Tensors of the Open Inference Protocol to the rows of a model, and what the model said to tensors."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlops.errors import InvalidRequest
from mlops.gateway.serving.inputs import DOUBLE_BYTES, Encoded, ModelInputs, Values, check_count, little_endian
from mlops.jobs.dataset import ColumnKind
from mlops.v1 import models_pb2, serving_pb2
from mlops.v1 import open_inference_pb2 as pb

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, kw_only=True)
class Datatype:
    """A type of the protocol: its code in `array` ("" for texts), and its field in InferTensorContents."""

    code: str
    field: str


DATATYPES = {
    "BOOL": Datatype(code="B", field="bool_contents"),
    "UINT8": Datatype(code="B", field="uint_contents"),
    "UINT16": Datatype(code="H", field="uint_contents"),
    "UINT32": Datatype(code="I", field="uint_contents"),
    "UINT64": Datatype(code="Q", field="uint64_contents"),
    "INT8": Datatype(code="b", field="int_contents"),
    "INT16": Datatype(code="h", field="int_contents"),
    "INT32": Datatype(code="i", field="int_contents"),
    "INT64": Datatype(code="q", field="int64_contents"),
    "FP32": Datatype(code="f", field="fp32_contents"),
    "FP64": Datatype(code="d", field="fp64_contents"),
    "BYTES": Datatype(code="", field="bytes_contents"),
}


def encode_tensors(inputs: ModelInputs, request: pb.ModelInferRequest) -> Encoded:
    """The rows of a request, if they fit the model. Raises InvalidRequest with the path of what is wrong."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InvalidRequest.of(
            "raw_input_contents", f"has {len(raw)} parts for {len(request.inputs)} inputs; there must be one for each"
        )
    if len(request.inputs) == 1 and _is_matrix(request.inputs[0], inputs):
        return _matrix(inputs, request.inputs[0], raw[0] if raw else None)
    columns: dict[str, Values] = {}
    paths: dict[str, str] = {}
    count = -1
    for index, tensor in enumerate(request.inputs):
        path = f"inputs[{index}]"
        if len(tensor.shape) not in (1, 2) or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
            raise InvalidRequest.of(
                f"{path}.shape",
                f"{tensor.name!r} has the shape {list(tensor.shape)}; a feature's is [rows] or [rows, 1]"
                + _matrix_hint(inputs),
            )
        if tensor.name in columns:
            raise InvalidRequest.of(path, f"the input {tensor.name!r} is there twice")
        if count < 0:
            count = tensor.shape[0]
            check_count(count, "inputs")
        elif tensor.shape[0] != count:
            raise InvalidRequest.of(
                f"{path}.shape", f"{tensor.name!r} has {tensor.shape[0]} rows, the first input has {count}"
            )
        columns[tensor.name] = _values(tensor, raw[index] if raw else None, path)
        paths[tensor.name] = path
    check_count(max(count, 0), "inputs")
    return inputs.encode(columns, count, lambda name: paths.get(name, "inputs"))


def decode_tensors(outputs: serving_pb2.Outputs, rows: int, response: pb.ModelInferResponse) -> None:
    """Adds what the model said to a response."""
    for output in outputs.outputs:
        tensor = response.outputs.add(name=METHOD_NAMES[output.method])
        tensor.shape.append(rows)
        if output.columns:
            tensor.shape.append(output.columns)
        content = output.WhichOneof("content")
        if content == "texts":
            tensor.datatype = "BYTES"
            response.raw_output_contents.append(_packed(output.texts.values))
        else:
            tensor.datatype = {"numbers": "FP64", "integers": "INT64", "booleans": "BOOL"}[content or "numbers"]
            response.raw_output_contents.append(getattr(output, content or "numbers"))


METHOD_NAMES: dict[int, str] = {
    models_pb2.PREDICT_METHOD_PREDICT: "predict",
    models_pb2.PREDICT_METHOD_PREDICT_PROBA: "predict_proba",
    models_pb2.PREDICT_METHOD_DECISION_FUNCTION: "decision_function",
}


def _is_matrix(tensor: pb.ModelInferRequest.InferInputTensor, inputs: ModelInputs) -> bool:
    """Whether a lone tensor holds all features: one with the only feature's name, [rows, 1], is a column as well."""
    return len(tensor.shape) == 2 and inputs.all_numeric and tensor.shape[1] == len(inputs.names)


def _matrix_hint(inputs: ModelInputs) -> str:
    return f", or one tensor [rows, {len(inputs.names)}] holds all of them" if inputs.all_numeric else ""


def _matrix(inputs: ModelInputs, tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Encoded:
    rows, width = tensor.shape
    check_count(rows, "inputs[0].shape")
    if raw is not None and tensor.datatype == "FP64":
        # As it is: nothing is read here.
        _check_length(len(raw) // DOUBLE_BYTES if len(raw) % DOUBLE_BYTES == 0 else -1, rows * width, "inputs[0]")
        return inputs.encode_matrix(raw, rows)
    values = _values(tensor, raw, "inputs[0]")
    if values.kind is ColumnKind.TEXT:
        raise InvalidRequest.of("inputs[0].datatype", f"{tensor.name!r} holds texts; the model takes numbers")
    return inputs.encode_matrix(little_endian(array("d", values.values)), rows)


def _values(tensor: pb.ModelInferRequest.InferInputTensor, raw: bytes | None, path: str) -> Values:
    datatype = DATATYPES.get(tensor.datatype)
    if datatype is None:
        raise InvalidRequest.of(
            f"{path}.datatype", f"{tensor.datatype!r} is not supported: use one of {', '.join(DATATYPES)}"
        )
    wanted = 1
    for size in tensor.shape:
        wanted *= size
    if not datatype.code:
        texts = _texts(_unpacked(raw, path) if raw is not None else tensor.contents.bytes_contents, path)
        _check_length(len(texts), wanted, path)
        return Values(ColumnKind.TEXT, texts)
    typed = getattr(tensor.contents, datatype.field)
    given = array("d", typed) if raw is None else _from_raw(raw, datatype.code, path)
    _check_length(len(given), wanted, path)
    return Values(ColumnKind.BOOLEAN if tensor.datatype == "BOOL" else ColumnKind.NUMERIC, given)


def _from_raw(raw: bytes, code: str, path: str) -> array[float]:
    found = array(code)
    if len(raw) % found.itemsize:
        raise InvalidRequest.of(path, f"has {len(raw)} bytes of values, which are {found.itemsize} bytes each")
    found.frombytes(raw)
    if sys.byteorder == "big":
        found.byteswap()
    return array("d", found)


def _unpacked(raw: bytes, path: str) -> Iterable[bytes]:
    place, end = 0, len(raw)
    while place < end:
        if end - place < _LENGTH.size:
            raise InvalidRequest.of(path, "the texts end in the middle of a length")
        (size,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if end - place < size:
            raise InvalidRequest.of(path, f"a text of {size} bytes is announced where {end - place} are left")
        yield raw[place : place + size]
        place += size


def _packed(texts: Iterable[str]) -> bytes:
    packed = bytearray()
    for text in texts:
        data = text.encode()
        packed += _LENGTH.pack(len(data))
        packed += data
    return bytes(packed)


def _texts(given: Iterable[bytes], path: str) -> Sequence[str]:
    try:
        return [data.decode() for data in given]
    except UnicodeDecodeError as error:
        raise InvalidRequest.of(path, f"holds a text that is not UTF-8: {error.reason}") from error


def _check_length(found: int, wanted: int, path: str) -> None:
    if found != wanted:
        values = f"{found} values" if found >= 0 else "values of another size"
        raise InvalidRequest.of(path, f"holds {values}; its shape says {wanted}")
