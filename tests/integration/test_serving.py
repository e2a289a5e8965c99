"""Online predictions through a real gateway, a real serving host and its children."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pandas as pd
import psutil
import pytest
from google.rpc.status_pb2 import Status
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlops.errors import (
    Code,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidRequest,
    MlopsError,
    NotFound,
    PermissionDenied,
    QuotaExceeded,
)
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import Role
from mlops.v1 import models_pb2, models_pb2_grpc, serving_pb2
from mlops.v1 import open_inference_pb2 as oip
from mlops.wire.link import LENGTH, framed
from mlops.wire.status import from_rpc_error, from_status, retry_after_seconds
from tests.fixtures.gateway import Caller
from tests.fixtures.serving import OnlineGateway, predict_request, running_online, wait_until

RNG = np.random.default_rng(7)
NUMBERS = pd.DataFrame(RNG.normal(size=(200, 3)), columns=["a", "b", "c"])
LABELS = np.where(NUMBERS["a"] + NUMBERS["b"] > 0, "yes", "no")
MIXED = pd.DataFrame(
    {
        "pay": RNG.normal(size=200),
        "town": RNG.choice(["Rome", "Oslo"], size=200),
        "member": RNG.random(size=200) > 0.5,
    }
)


def classifier() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(NUMBERS, LABELS)


def refused(caller: Caller, service: str, method: str, request: Any) -> MlopsError:
    with pytest.raises(grpc.RpcError) as caught:
        caller.call(service, method, request)
    return from_rpc_error(caught.value)


def columns(frame: models_pb2.Frame) -> dict[str, list[Any]]:
    return {column.name: list(getattr(column, column.WhichOneof("content") or "").values) for column in frame.columns}


@pytest.fixture(scope="module")
def churn(online: OnlineGateway) -> Any:
    """A classifier that version 1 of acme's `churn` is."""
    model = classifier()
    assert online.register("acme", "churn", model, NUMBERS) == 1
    return model


def test_a_prediction_is_what_the_model_says(online: OnlineGateway, churn: Any) -> None:
    request = predict_request("churn", NUMBERS.head(5), outputs=[1, 2, 3])
    response = online.caller().models("Predict", request)
    said = columns(response.predictions)
    assert response.version == 1
    assert said["prediction"] == list(churn.predict(NUMBERS.head(5)))
    probabilities = churn.predict_proba(NUMBERS.head(5))
    assert np.allclose(said["probability[no]"], probabilities[:, 0])
    assert np.allclose(said["probability[yes]"], probabilities[:, 1])
    assert np.allclose(said["score"], churn.decision_function(NUMBERS.head(5)))


def test_columns_of_texts_truth_values_and_missing_numbers_arrive_as_the_model_learnt_them(
    online: OnlineGateway,
) -> None:
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["town"]), remainder="passthrough"), RandomForestRegressor(10)
    ).fit(MIXED, MIXED["pay"] * 2 + MIXED["member"])
    online.register("acme", "pay", model, MIXED)
    rows = MIXED.sample(frac=1.0, random_state=1).head(20)
    shuffled = rows[["member", "town", "pay"]].assign(noise=1.0)
    response = online.caller().models("Predict", predict_request("pay", shuffled))
    assert np.allclose(columns(response.predictions)["prediction"], model.predict(rows))
    assert response.warnings == ["columns that the model does not take are ignored: noise"]


def test_columns_that_do_not_fit_are_named_with_their_paths(online: OnlineGateway, churn: Any) -> None:
    wrong = pd.DataFrame({"a": [1.0], "b": ["text"]})
    error = refused(online.caller(), "Models", "Predict", predict_request("churn", wrong))
    assert isinstance(error, InvalidRequest)
    assert error.violations == {
        "rows.columns[1]": "column 'b' is text: the model takes numeric",
        "rows": "column 'c' is missing: the model needs it (numeric)",
    }
    missing = NUMBERS.head(3).copy()
    missing.loc[1, "b"] = np.nan
    error = refused(online.caller(), "Models", "Predict", predict_request("churn", missing))
    assert isinstance(error, InvalidRequest)
    assert list(error.violations) == ["rows[1]"]
    assert "column 'b' has no value" in error.message


def test_uneven_repeated_and_empty_columns_are_refused(online: OnlineGateway, churn: Any) -> None:
    request = predict_request("churn", NUMBERS.head(2))
    request.rows.columns[2].doubles.values.append(1.0)
    error = refused(online.caller(), "Models", "Predict", request)
    assert "rows.columns[2]" in getattr(error, "violations", {})
    request = predict_request("churn", NUMBERS.head(2))
    request.rows.columns[2].name = "a"
    assert "is there twice" in refused(online.caller(), "Models", "Predict", request).message
    assert (
        "has 0 rows" in refused(online.caller(), "Models", "Predict", models_pb2.PredictRequest(model="churn")).message
    )


def test_a_method_that_the_model_does_not_have_is_refused(online: OnlineGateway) -> None:
    online.register("acme", "level", RandomForestRegressor(3).fit(NUMBERS, NUMBERS["a"]), NUMBERS)
    error = refused(online.caller(), "Models", "Predict", predict_request("level", NUMBERS.head(1), outputs=[2]))
    assert isinstance(error, InvalidRequest)
    assert "has no predict_proba; it has predict" in error.message


def test_another_tenants_model_is_unknown_by_every_route(online: OnlineGateway, churn: Any) -> None:
    online.set_alias("acme", "churn", "champion", 1)
    online.caller().models("Predict", predict_request("churn", NUMBERS.head(1)))
    other = online.caller("globex")
    rows = NUMBERS.head(1)
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 3])
    raw = [rows.to_numpy().tobytes()]
    calls: list[tuple[str, str, Any]] = [
        ("Models", "Predict", predict_request("churn", rows)),
        ("Models", "Predict", predict_request("churn", rows, version=1)),
        ("Models", "Predict", predict_request("churn", rows, alias="champion")),
        ("Models", "SetModelAlias", models_pb2.SetModelAliasRequest(name="churn", alias="champion", version=1)),
        ("Models", "DeleteModelAlias", models_pb2.DeleteModelAliasRequest(name="churn", alias="champion")),
        ("Models", "GetTraffic", models_pb2.GetTrafficRequest(model="churn")),
        ("Models", "SetTraffic", models_pb2.SetTrafficRequest(model="churn")),
        ("Models", "GetServingFigures", models_pb2.GetServingFiguresRequest(model="churn")),
    ]
    for version in ("", "1", "champion"):
        request = oip.ModelInferRequest(
            model_name="churn", model_version=version, inputs=[tensor], raw_input_contents=raw
        )
        calls.append(("GRPCInferenceService", "ModelInfer", request))
        calls.append(("GRPCInferenceService", "ModelMetadata", oip.ModelMetadataRequest(name="churn", version=version)))
        ready = other.infer("ModelReady", oip.ModelReadyRequest(name="churn", version=version))
        assert not ready.ready
    for service, method, request in calls:
        error = refused(other, service, method, request)
        assert isinstance(error, NotFound), (method, error)
        like = type(request)()
        like.CopyFrom(request)
        for field in ("model", "name", "model_name"):
            if field in type(request).DESCRIPTOR.fields_by_name:
                setattr(like, field, "nobody")
        assert refused(other, service, method, like).message == error.message.replace("churn", "nobody")


def test_a_viewer_predicts_and_moves_no_alias(online: OnlineGateway, churn: Any) -> None:
    viewer = online.caller(role=Role.VIEWER)
    viewer.models("Predict", predict_request("churn", NUMBERS.head(1)))
    alias = models_pb2.SetModelAliasRequest(name="churn", alias="x", version=1)
    assert isinstance(refused(viewer, "Models", "SetModelAlias", alias), PermissionDenied)
    assert isinstance(
        refused(viewer, "Models", "SetTraffic", models_pb2.SetTrafficRequest(model="churn")), PermissionDenied
    )


def test_a_host_refuses_an_order_that_leads_out_of_its_tenant(online: OnlineGateway, churn: Any) -> None:
    async def ask(tenant: str, model_id: str) -> MlopsError:
        reader, writer = await asyncio.open_connection("127.0.0.1", online.host.port)
        model = serving_pb2.StagedModel(tenant=tenant, model_id=model_id)
        order = serving_pb2.PredictOrder(
            model=model, methods=[models_pb2.PREDICT_METHOD_PREDICT], row_count=1, is_matrix=True
        )
        writer.write(framed(serving_pb2.Order(id=1, seconds=5.0, predict=order)))
        size = LENGTH.unpack(await reader.readexactly(LENGTH.size))[0]
        reply = serving_pb2.Reply.FromString(await reader.readexactly(size))
        writer.close()
        await writer.wait_closed()
        return from_status(Status.FromString(reply.error))

    own = f"m-{'0' * 32}"
    for tenant, model_id in (
        ("globex", f"../../acme/models/{own}"),
        ("globex/../acme", own),
        ("", own),
        ("globex", ""),
    ):
        assert isinstance(asyncio.run(ask(tenant, model_id)), InvalidRequest)
    assert isinstance(asyncio.run(ask("globex", own)), NotFound)


def test_a_connection_that_speaks_something_else_is_closed(online: OnlineGateway) -> None:
    async def speak(data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", online.host.port)
        writer.write(data)
        try:
            return await asyncio.wait_for(reader.read(), 5.0)
        except ConnectionResetError:
            return b""
        finally:
            writer.transport.abort()
            await asyncio.sleep(0)

    assert asyncio.run(speak(b"GET / HTTP/1.1\r\n\r\n" * 10)) == b""
    assert asyncio.run(speak(LENGTH.pack(4) + b"\xff\xff\xff\xff")) == b""


def test_a_request_whose_rows_fail_fails_alone(online: OnlineGateway, churn: Any) -> None:
    poisoned = NUMBERS.head(1).copy()
    poisoned.loc[0, "a"] = np.inf
    caller = online.caller()
    outcomes: list[object] = []

    def ask(rows: pd.DataFrame) -> None:
        try:
            caller.models("Predict", predict_request("churn", rows))
            outcomes.append("ok")
        except grpc.RpcError as error:
            outcomes.append(from_rpc_error(error))

    tables = [poisoned if index % 5 == 0 else NUMBERS.iloc[[index]] for index in range(40)]
    threads = [threading.Thread(target=ask, args=(table,)) for table in tables]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert outcomes.count("ok") == 32
    failures = [outcome for outcome in outcomes if outcome != "ok"]
    assert all(isinstance(failure, InvalidRequest) for failure in failures)
    assert len(failures) == 8


def test_open_inference_takes_typed_and_raw_tensors(online: OnlineGateway, churn: Any) -> None:
    caller = online.caller()
    rows = NUMBERS.head(4)
    matrix = rows.to_numpy()
    tensor = oip.ModelInferRequest.InferInputTensor
    wanted = [oip.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in ("predict", "predict_proba")]
    typed = tensor(name="x", datatype="FP64", shape=[4, 3])
    typed.contents.fp64_contents.extend(matrix.ravel())
    features = [tensor(name=name, datatype="FP32", shape=[4, 1]) for name in reversed(rows.columns)]
    requests = [
        oip.ModelInferRequest(
            inputs=[tensor(name="x", datatype="FP64", shape=[4, 3])], raw_input_contents=[matrix.tobytes()]
        ),
        oip.ModelInferRequest(inputs=[typed]),
        oip.ModelInferRequest(
            inputs=features,
            raw_input_contents=[rows[feature.name].to_numpy(dtype=np.float32).tobytes() for feature in features],
        ),
    ]
    for request in requests:
        request.model_name, request.id = "churn", "r-1"
        request.outputs.extend(wanted)
        response = caller.infer("ModelInfer", request)
        assert (response.model_name, response.model_version, response.id) == ("churn", "1", "r-1")
        assert response.parameters["engine"].string_param in ("sklearn", "onnx")
        labels, probabilities = response.outputs
        assert (labels.name, labels.datatype, list(labels.shape)) == ("predict", "BYTES", [4])
        assert (probabilities.datatype, list(probabilities.shape)) == ("FP64", [4, 2])
        found = np.frombuffer(response.raw_output_contents[1]).reshape(4, 2)
        assert np.allclose(found, churn.predict_proba(rows), atol=1e-5)


def test_open_inference_says_what_is_wrong_with_a_tensor(online: OnlineGateway, churn: Any) -> None:
    caller = online.caller()
    tensor = oip.ModelInferRequest.InferInputTensor

    def problem(*inputs: Any, raw: list[bytes] | None = None, **fields: Any) -> str:
        request = oip.ModelInferRequest(model_name="churn", inputs=inputs, raw_input_contents=raw or [], **fields)
        error = refused(caller, "GRPCInferenceService", "ModelInfer", request)
        assert isinstance(error, InvalidRequest), error
        return error.message

    matrix = tensor(name="x", datatype="FP64", shape=[1, 3])
    assert "its shape says 3" in problem(matrix, raw=[b"\0" * 16])
    assert "8 bytes each" in problem(tensor(name="x", datatype="INT64", shape=[1, 3]), raw=[b"\0" * 5])
    assert "not supported: use one of BOOL" in problem(tensor(name="x", datatype="FP16", shape=[1, 3]), raw=[b"\0" * 6])
    assert "one tensor [rows, 3] holds all" in problem(
        tensor(name="x", datatype="FP64", shape=[1, 2]), raw=[b"\0" * 16]
    )
    assert "one for each" in problem(matrix, matrix, raw=[b""])
    assert "column 'a' is missing" in problem(tensor(name="b", datatype="FP64", shape=[1]), raw=[b"\0" * 8])
    assert "holds texts" in problem(tensor(name="x", datatype="BYTES", shape=[1, 3]), raw=[b"\0" * 12])
    unknown = oip.ModelInferRequest.InferRequestedOutputTensor(name="predictions")
    assert "'predictions' is none of predict" in problem(matrix, raw=[b"\0" * 24], outputs=[unknown])
    assert "-1 rows" in problem(tensor(name="x", datatype="FP64", shape=[-1, 3]), raw=[b"\0" * 24])


def test_open_inference_describes_a_model(online: OnlineGateway, churn: Any) -> None:
    caller = online.caller()
    assert caller.infer("ServerLive", oip.ServerLiveRequest()).live
    assert caller.infer("ServerReady", oip.ServerReadyRequest()).ready
    assert caller.infer("ServerMetadata", oip.ServerMetadataRequest()).name == "mlops"
    assert caller.infer("ModelReady", oip.ModelReadyRequest(name="churn")).ready
    found = caller.infer("ModelMetadata", oip.ModelMetadataRequest(name="churn", version="1"))
    assert (found.platform, next(iter(found.versions))) == ("sklearn", "1")
    assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
        (name, "FP64", [-1]) for name in ("a", "b", "c")
    ]
    assert [(one.name, one.datatype, list(one.shape)) for one in found.outputs] == [
        ("predict", "BYTES", [-1]),
        ("predict_proba", "FP64", [-1, 2]),
        ("decision_function", "FP64", [-1]),
    ]


def test_a_rate_and_a_number_at_a_time_are_limits_of_the_tenant(online: OnlineGateway, churn: Any) -> None:
    tenants = TenantStore(online.gateway.database)
    caller = online.caller()
    request = predict_request("churn", NUMBERS.head(1))
    try:
        online.gateway.run(tenants.update("acme", quota={"max_predictions_per_second": 5}))
        failures: list[grpc.RpcError] = []

        def exceeded() -> bool:
            try:
                caller.models("Predict", request)
            except grpc.RpcError as error:
                failures.append(error)
            return bool(failures)

        wait_until(exceeded)
        error = from_rpc_error(failures[0])
        assert isinstance(error, QuotaExceeded)
        assert error.limit == "max_predictions_per_second"
        assert retry_after_seconds(failures[0])
        online.gateway.run(
            tenants.update("acme", quota={"max_predictions_per_second": 10_000, "max_concurrent_predictions": 0})
        )
        found: list[str] = []

        def at_once() -> bool:
            try:
                caller.models("Predict", request)
            except grpc.RpcError as refusal:
                found.append(getattr(from_rpc_error(refusal), "limit", ""))
            return "max_concurrent_predictions" in found

        wait_until(at_once)
    finally:
        online.gateway.run(
            tenants.update("acme", quota={"max_predictions_per_second": 10_000, "max_concurrent_predictions": 256})
        )
        wait_until(lambda: _works(caller, request))


def _works(caller: Caller, request: Any) -> bool:
    try:
        caller.models("Predict", request)
    except grpc.RpcError:
        return False
    return True


def test_the_callers_deadline_is_kept_and_the_next_prediction_is_not_hurt(online: OnlineGateway) -> None:
    slow = KNeighborsRegressor(algorithm="brute").fit(np.tile(NUMBERS.to_numpy(), (300, 1)), np.arange(60_000))
    table = pd.DataFrame(np.tile(NUMBERS.to_numpy(), (40, 1)), columns=list(NUMBERS))
    slow.feature_names_in_ = np.array(list(NUMBERS), dtype=object)
    online.register("globex", "slow", slow, NUMBERS)
    caller = online.caller("globex")
    caller.models("Predict", predict_request("slow", NUMBERS.head(1)))
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        models_pb2_grpc.ModelsStub(caller.channel).Predict(
            predict_request("slow", table), metadata=caller.metadata, timeout=0.3
        )
    assert time.monotonic() - begun < 2.0
    assert isinstance(from_rpc_error(caught.value), DeadlineExceeded)
    caller.models("Predict", predict_request("slow", NUMBERS.head(1)))


def test_an_alias_is_set_and_removed(online: OnlineGateway, churn: Any) -> None:
    caller = online.caller()
    online.register("acme", "moved", classifier(), NUMBERS)
    second = online.register("acme", "moved", classifier(), NUMBERS)
    request = models_pb2.SetModelAliasRequest(name="moved", alias="champion", version=1)
    assert caller.models("SetModelAlias", request).model.aliases == {"champion": 1}
    assert caller.models("Predict", predict_request("moved", NUMBERS.head(1))).version == 1
    request.version = second
    caller.models("SetModelAlias", request)
    assert caller.models("Predict", predict_request("moved", NUMBERS.head(1), alias="champion")).version == second
    for alias in ("v1", "12", "latest", "a b", "", "x" * 256):
        wrong = models_pb2.SetModelAliasRequest(name="moved", alias=alias, version=1)
        assert isinstance(refused(caller, "Models", "SetModelAlias", wrong), InvalidRequest), alias
    gone = models_pb2.SetModelAliasRequest(name="moved", alias="x", version=99)
    assert isinstance(refused(caller, "Models", "SetModelAlias", gone), NotFound)
    delete = models_pb2.DeleteModelAliasRequest(name="moved", alias="champion")
    assert not caller.models("DeleteModelAlias", delete).model.aliases
    assert isinstance(refused(caller, "Models", "DeleteModelAlias", delete), NotFound)
    error = refused(caller, "Models", "Predict", predict_request("moved", NUMBERS.head(1), alias="champion"))
    assert isinstance(error, NotFound)


def test_a_share_of_the_requests_goes_to_the_challenger_and_a_key_always_to_the_same(online: OnlineGateway) -> None:
    caller = online.caller()
    for _ in range(2):
        online.register("acme", "split", classifier(), NUMBERS)
    rule = models_pb2.TrafficRule(champion="1", challenger="2", challenger_share=0.3)
    caller.models("SetTraffic", models_pb2.SetTrafficRequest(model="split", rule=rule))
    rows = NUMBERS.head(1)

    def version(key: str, **which: Any) -> int:
        return int(caller.models("Predict", predict_request("split", rows, request_key=key, **which)).version)

    first = [version(f"customer-{index}") for index in range(200)]
    assert 35 <= first.count(2) <= 85
    assert [version(f"customer-{index}") for index in range(200)] == first
    chosen = first.index(2)
    assert version(f"customer-{chosen}", version=1) == 1
    assert 5 <= [version("") for _ in range(100)].count(2) <= 60
    tensor = oip.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1, 3])
    request = oip.ModelInferRequest(model_name="split", inputs=[tensor], raw_input_contents=[rows.to_numpy().tobytes()])
    request.parameters["request_key"].string_param = f"customer-{chosen}"
    assert caller.infer("ModelInfer", request).model_version == "2"
    caller.models("SetTraffic", models_pb2.SetTrafficRequest(model="split"))
    wait_until(lambda: version(f"customer-{first.index(1)}") == 2, 2.0)
    assert not caller.models("GetTraffic", models_pb2.GetTrafficRequest(model="split")).rule.challenger


def test_a_rule_that_names_what_is_not_there_is_refused(online: OnlineGateway, churn: Any) -> None:
    caller = online.caller()
    for rule in (
        models_pb2.TrafficRule(challenger="77", challenger_share=0.5),
        models_pb2.TrafficRule(champion="nobody"),
    ):
        error = refused(caller, "Models", "SetTraffic", models_pb2.SetTrafficRequest(model="churn", rule=rule))
        assert isinstance(error, NotFound)
    for rule in (
        models_pb2.TrafficRule(challenger="1", challenger_share=1.5),
        models_pb2.TrafficRule(shadow_share=0.5),
    ):
        error = refused(caller, "Models", "SetTraffic", models_pb2.SetTrafficRequest(model="churn", rule=rule))
        assert isinstance(error, InvalidRequest)


def test_shadow_traffic_is_answered_by_the_champion_and_compared(online: OnlineGateway) -> None:
    caller = online.caller()
    online.register("acme", "shadowed", classifier(), NUMBERS)
    contrary = make_pipeline(StandardScaler(), LogisticRegression()).fit(
        NUMBERS, np.where(LABELS == "yes", "no", "yes")
    )
    online.register("acme", "shadowed", contrary, NUMBERS)
    rule = models_pb2.TrafficRule(champion="1", challenger="2", shadow_share=1.0)
    caller.models("SetTraffic", models_pb2.SetTrafficRequest(model="shadowed", rule=rule))
    for index in range(10):
        request = predict_request("shadowed", NUMBERS.iloc[index * 4 : index * 4 + 4], outputs=[1, 2])
        assert caller.models("Predict", request).version == 1

    def seen() -> models_pb2.ShadowFigures:
        shadow: models_pb2.ShadowFigures = caller.models(
            "GetTraffic", models_pb2.GetTrafficRequest(model="shadowed")
        ).shadow
        return shadow

    wait_until(lambda: seen().compared_rows == 40)
    assert seen().differing_rows == 40
    assert 0 < seen().mean_difference <= seen().max_difference <= 1
    assert seen().HasField("since")


def test_figures_count_requests_errors_rows_and_latency_by_version(online: OnlineGateway) -> None:
    caller = online.caller()
    online.register("acme", "counted", classifier(), NUMBERS)
    for _ in range(3):
        caller.models("Predict", predict_request("counted", NUMBERS.head(2)))
    refused(caller, "Models", "Predict", predict_request("counted", NUMBERS[["a"]].head(2)))
    found = caller.models("GetServingFigures", models_pb2.GetServingFiguresRequest(model="counted"))
    [version] = found.versions
    assert (version.version, version.requests, version.rows) == (1, 4, 6)
    assert version.errors == {Code.INVALID_ARGUMENT: 1}
    assert sum(version.engines.values()) == 3
    assert 0 < version.latency_p50_ms <= version.latency_p90_ms <= version.latency_p99_ms < 20_000
    assert version.batch_rows_max == 2.0


def test_a_model_that_cannot_be_loaded_is_refused_and_says_why(online: OnlineGateway) -> None:
    version = online.register("acme", "damaged", classifier(), NUMBERS)
    [key] = [
        key
        for key in online.gateway.run(online.gateway.objects.list("tenants/acme/models"))
        if key.endswith("model.skops") and _is_newest(online, key)
    ]
    online.gateway.run(online.gateway.objects.write_bytes(key, b"no model"))
    error = refused(online.caller(), "Models", "Predict", predict_request("damaged", NUMBERS.head(1), version=version))
    assert isinstance(error, FailedPrecondition) or error.code is Code.FAILED_PRECONDITION
    assert "damaged" in error.message or "no model" in error.message


def _is_newest(online: OnlineGateway, key: str) -> bool:
    registered = online.gateway.tracking.of("acme").registered["damaged"]
    return any(logged.model_id in key for logged, *_ in registered.versions.values())


def test_a_stopped_host_finishes_what_it_holds_and_takes_nothing_new(tmp_path: Path) -> None:
    with running_online(tmp_path) as (gateway, hosts):
        online = OnlineGateway(gateway, hosts[0])
        slow = KNeighborsRegressor(algorithm="brute").fit(np.tile(NUMBERS.to_numpy(), (200, 1)), np.arange(40_000))
        table = pd.DataFrame(np.tile(NUMBERS.to_numpy(), (5, 1)), columns=list(NUMBERS))
        online.register("acme", "slow", slow, NUMBERS)
        caller = online.caller()
        caller.models("Predict", predict_request("slow", NUMBERS.head(1)))
        under_way = models_pb2_grpc.ModelsStub(caller.channel).Predict.future(
            predict_request("slow", table), metadata=caller.metadata, timeout=20
        )
        child = hosts[0].children()[0]
        used = sum(child.cpu_times()[:2])
        wait_until(lambda: sum(child.cpu_times()[:2]) > used + 0.03)
        assert hosts[0].stop() == 0
        assert len(under_way.result().predictions.columns[0].doubles.values) == len(table)
        assert not psutil.pid_exists(child.pid)
        error = refused_within(caller, predict_request("slow", NUMBERS.head(1)))
        assert error.code in (Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED)


def refused_within(caller: Caller, request: Any) -> MlopsError:
    with pytest.raises(grpc.RpcError) as caught:
        models_pb2_grpc.ModelsStub(caller.channel).Predict(request, metadata=caller.metadata, timeout=8)
    return from_rpc_error(caught.value)


@pytest.fixture(scope="module", autouse=True)
def _logs(online: OnlineGateway) -> Iterator[None]:
    """The host's log holds no incident at the end."""
    yield
    lines = [json.loads(line) for line in online.host.log.read_text().splitlines() if line.startswith("{")]
    assert not [line for line in lines if line.get("event") in ("a batch failed", "an order failed")]
