"""Requests that make no sense, against the real Temporal, MLflow and storage behind the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fixtures.gateway import Caller
from tests.fixtures.stack import RunningStack
from tests.integration.test_gateway import DEFECTS, SERVICES, messages

# What a tenant may call, and what waits for one answer. Uploads and watches: tests/integration/test_gateway.py.
METHODS = [
    (service, method.name)
    for service in ("Jobs", "Datasets", "Models")
    for method in SERVICES[service].methods
    if not method.client_streaming and not method.server_streaming
]
# Names with a meaning to what is behind the gateway: queries, paths, headers, patterns.
MEANINGFUL = ["' OR 1=1 --", "a`b", "../..", "%", "name LIKE '%'", "*", "a*b*", "é\u202e", "x" * 60, "\r\nX: y", "0"]


@pytest.fixture(scope="module")
def caller(stack: RunningStack) -> Iterator[Caller]:
    _, key = stack.new_tenant()
    with grpc.insecure_channel(stack.address) as channel:
        yield Caller(channel, key)


@pytest.mark.parametrize(("service", "method"), METHODS)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(data=st.data())
def test_nonsense_is_never_a_defect_of_what_is_behind(
    caller: Caller, service: str, method: str, data: st.DataObject
) -> None:
    kind = GetMessageClass(SERVICES[service].methods_by_name[method].input_type)
    request = kind.FromString(data.draw(messages(kind)))
    assert code_of(caller, service, method, request) not in DEFECTS


@pytest.mark.parametrize("text", MEANINGFUL)
@pytest.mark.parametrize(("service", "method"), METHODS)
def test_texts_with_a_meaning_elsewhere_mean_nothing(caller: Caller, service: str, method: str, text: str) -> None:
    request: Any = GetMessageClass(SERVICES[service].methods_by_name[method].input_type)()
    filled = [request, *(getattr(request, name) for name in ("filter", "spec") if hasattr(request, name))]
    for message in filled:
        for field in message.DESCRIPTOR.fields:
            if field.type == field.TYPE_STRING and not field.is_repeated and field.name != "page_token":
                setattr(message, field.name, text)
            elif field.name == "labels":
                message.labels[text] = text
    assert code_of(caller, service, method, request) not in DEFECTS


def code_of(caller: Caller, service: str, method: str, request: Any) -> grpc.StatusCode:
    try:
        caller.call(service, method, request)
    except grpc.RpcError as error:
        ended: Any = error
        code: grpc.StatusCode = ended.code()
        return code
    return grpc.StatusCode.OK
