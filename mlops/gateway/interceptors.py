"""The gate that every call of ours passes, unary or stream: key, role, size, errors, log.

It stands around each servicer's method, and hands it `(principal, request)`: the caller is an argument, never
ambient. Requests are decoded here, so that bytes which are no message are the caller's error and not ours.
Health and reflection are served beside it, and take no key.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from mlops.errors import Code, DeadlineExceeded, Internal, InvalidRequest, MlopsError, Unauthenticated, Unavailable
from mlops.gateway.access import authorise
from mlops.tenants.tenant import Principal
from mlops.wire.decode import decode
from mlops.wire.status import DETAILS_TRAILER, grpc_code, to_status

MIB = 1024**2
# A spec names up to 20,000 columns. A chunk has 1 MiB, with room for those who send larger ones.
MAX_REQUEST_BYTES = {
    "SubmitTraining": 2 * MIB,
    "ValidateTraining": 2 * MIB,
    "UploadDataset": 4 * MIB,
    "Predict": 16 * MIB,
    "ModelInfer": 16 * MIB,
}
# Predictions: their servicers are told how long the caller waits; figures count them, so that those that go well or
# are shed leave no line in the log; and their values, which nobody stores, may hold any bytes.
PREDICTIONS = frozenset({"Predict", "ModelInfer"})
COUNTED_ONLY = frozenset({"OK", Code.RESOURCE_EXHAUSTED})
OTHER_REQUEST_BYTES = MIB // 4

Context = grpc.aio.ServicerContext[Any, Any]

_log = structlog.get_logger(__name__)


class Authenticator(Protocol):
    """Knows whose key it is."""

    async def authenticate(self, key: str) -> Principal:
        """Whose key this is. Raises Unauthenticated."""
        ...


@dataclass(kw_only=True)
class _Call:
    """One call under way."""

    method: str
    key: str = ""
    principal: Principal | None = None
    code: str = "OK"
    began: float = field(default_factory=time.monotonic)
    checked: float = field(default_factory=time.monotonic)

    @property
    def caller(self) -> Principal:
        """Who makes the call; set before any servicer sees it."""
        if self.principal is None:
            raise Unauthenticated("the call has no caller")
        return self.principal


class Gate:
    """Builds the handlers of our services.

    recheck: how often the key of a stream is looked at again, so that a revoked one ends it.
    patience: how long an upload may pause before it is given up.
    predict_timeout: for predictions whose caller names no deadline.
    """

    def __init__(
        self,
        keys: Authenticator,
        *,
        recheck: timedelta = timedelta(seconds=1),
        patience: timedelta = timedelta(minutes=2),
        predict_timeout: timedelta = timedelta(seconds=30),
    ) -> None:
        self._keys = keys
        self._recheck = recheck.total_seconds()
        self._patience = patience.total_seconds()
        self._predict_timeout = predict_timeout.total_seconds()
        self._stopping = asyncio.Event()

    def close(self) -> None:
        """Ends every response stream with Unavailable, so that clients watch on elsewhere."""
        self._stopping.set()

    def handler(self, service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler[Any, Any]:
        """The handler of a service: its method SubmitTraining is the servicer's `submit_training`."""
        handlers = {
            method.name: self._method(method, getattr(servicer, _snake_case(method.name))) for method in service.methods
        }
        return grpc.method_handlers_generic_handler(service.full_name, handlers)

    def _method(self, method: MethodDescriptor, serve: Callable[..., Any]) -> grpc.RpcMethodHandler[Any, Any]:
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(self._stream_unary(method, serve))
        if method.name in PREDICTIONS:
            return grpc.unary_unary_rpc_method_handler(self._prediction(method, serve))
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._unary_stream(method, serve))
        return grpc.unary_unary_rpc_method_handler(self._unary_unary(method, serve))

    def _unary_unary(
        self, method: MethodDescriptor, serve: Callable[[Principal, Any], Awaitable[Message]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def respond(data: bytes, context: Context) -> bytes:
            async with self._call(method, context) as call:
                return (await serve(call.caller, _decode(method, data))).SerializeToString()

        return respond

    def _prediction(
        self, method: MethodDescriptor, serve: Callable[[Principal, Any, float], Awaitable[Message]]
    ) -> Callable[[bytes, Context], Awaitable[bytes]]:
        async def respond(data: bytes, context: Context) -> bytes:
            async with self._call(method, context) as call:
                left = context.time_remaining()
                seconds = self._predict_timeout if left is None else left
                return (await serve(call.caller, _decode(method, data), seconds)).SerializeToString()

        return respond

    def _unary_stream(
        self, method: MethodDescriptor, serve: Callable[[Principal, Any], AsyncGenerator[Message, None]]
    ) -> Callable[[bytes, Context], AsyncIterator[bytes]]:
        async def respond(data: bytes, context: Context) -> AsyncIterator[bytes]:
            async with self._call(method, context) as call:
                responses = self._outgoing(call, serve(call.caller, _decode(method, data)))
                async with aclosing(responses):
                    async for response in responses:
                        yield response.SerializeToString()

        return respond

    def _stream_unary(
        self, method: MethodDescriptor, serve: Callable[[Principal, Any], Awaitable[Message]]
    ) -> Callable[[AsyncIterator[bytes], Context], Awaitable[bytes]]:
        async def respond(stream: AsyncIterator[bytes], context: Context) -> bytes:
            async with (
                self._call(method, context) as call,
                aclosing(self._incoming(call, method, stream)) as requests,
            ):
                return (await serve(call.caller, requests)).SerializeToString()

        return respond

    # --- one call ------------------------------------------------------------------------------

    @asynccontextmanager
    async def _call(self, method: MethodDescriptor, context: Context) -> AsyncIterator[_Call]:
        """Lets the caller in, turns every error into a status, and writes the call's one line in the log."""
        call = _Call(method=f"/{_service_of(method)}/{method.name}")
        try:
            call.key = _key_in(context)
            call.principal = await self._keys.authenticate(call.key)
            authorise(call.method, call.principal)
            yield call
        except MlopsError as error:
            await _abort(context, call, error if error.code is not Code.INTERNAL else _incident(call, error))
        except grpc.aio.AbortError:
            call.code = "ABORTED"
            raise
        except asyncio.CancelledError:
            call.code = Code.CANCELLED
            raise
        except Exception as error:  # noqa: BLE001  # the one place where unknown errors end, logged with their traceback
            await _abort(context, call, _incident(call, error))
        finally:
            if method.name not in PREDICTIONS or call.code not in COUNTED_ONLY:
                _write_log(call)

    async def _still_valid(self, call: _Call) -> None:
        if time.monotonic() - call.checked >= self._recheck:
            call.checked = time.monotonic()
            authorise(call.method, await self._keys.authenticate(call.key))

    async def _outgoing(self, call: _Call, responses: AsyncGenerator[Message, None]) -> AsyncGenerator[Message, None]:
        """The responses, for as long as the key is valid and the gateway stays."""
        stopping = asyncio.ensure_future(self._stopping.wait())
        following = asyncio.ensure_future(anext(responses, None))
        try:
            while True:
                await asyncio.wait({stopping, following}, timeout=self._recheck, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done():
                    raise Unavailable("the gateway is being stopped; call again")
                await self._still_valid(call)
                if following.done():
                    response = following.result()
                    if response is None:
                        return
                    yield response
                    following = asyncio.ensure_future(anext(responses, None))
        finally:
            for task in (stopping, following):
                task.cancel()
            await asyncio.gather(stopping, following, return_exceptions=True)
            await responses.aclose()

    async def _incoming(
        self, call: _Call, method: MethodDescriptor, stream: AsyncIterator[bytes]
    ) -> AsyncGenerator[Message, None]:
        """The requests, for as long as the key is valid and the caller keeps sending."""
        incoming = aiter(stream)
        while True:
            try:
                data = await asyncio.wait_for(anext(incoming), self._patience)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise DeadlineExceeded(f"nothing arrived for {self._patience:g} s; send it again") from error
            await self._still_valid(call)
            yield _decode(method, data)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def _service_of(method: MethodDescriptor) -> str:
    return method.containing_service.full_name


def _decode(method: MethodDescriptor, data: bytes) -> Message:
    most = MAX_REQUEST_BYTES.get(method.name, OTHER_REQUEST_BYTES)
    if len(data) > most:
        raise InvalidRequest(f"the request has {len(data)} bytes; {method.name} takes at most {most}")
    return decode(GetMessageClass(method.input_type), data, any_text=method.name in PREDICTIONS)


def _key_in(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            scheme, _, secret = value.partition(" ")
            if scheme.lower() == "bearer":
                return secret.strip()
    raise Unauthenticated("no API key: send it as the metadata 'authorization: Bearer mlops_…'")


def _incident(call: _Call, error: Exception) -> Internal:
    incident = secrets.token_hex(6)
    _log.error("incident", incident=incident, method=call.method, tenant=_tenant_of(call), exc_info=error)
    return Internal(f"a defect of the platform; its operators find it as incident {incident}", incident=incident)


async def _abort(context: Context, call: _Call, error: MlopsError) -> None:
    call.code = error.code
    status = to_status(error)
    await context.abort(
        grpc_code(error), status.message, trailing_metadata=((DETAILS_TRAILER, status.SerializeToString()),)
    )


def _tenant_of(call: _Call) -> str | None:
    return call.principal.tenant if call.principal else None


def _write_log(call: _Call) -> None:
    _log.info(
        "call",
        method=call.method,
        tenant=_tenant_of(call),
        key_id=call.principal.key_id if call.principal else None,
        code=str(call.code),
        ms=round((time.monotonic() - call.began) * 1000, 1),
    )
