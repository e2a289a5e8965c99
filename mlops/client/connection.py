"""One gRPC channel to a gateway: credentials, deadlines, retries and errors for every call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import grpc
import grpc.aio

from mlops import __version__, errors
from mlops.client.endpoint import Endpoint
from mlops.client.retry import RetryPolicy
from mlops.v1.datasets_pb2_grpc import DatasetsStub
from mlops.v1.jobs_pb2_grpc import JobsStub
from mlops.v1.models_pb2_grpc import ModelsStub
from mlops.v1.tenants_pb2_grpc import TenantsStub
from mlops.wire import status

if TYPE_CHECKING:
    from mlops.v1.datasets_pb2_grpc import DatasetsAsyncStub
    from mlops.v1.jobs_pb2_grpc import JobsAsyncStub
    from mlops.v1.models_pb2_grpc import ModelsAsyncStub
    from mlops.v1.tenants_pb2_grpc import TenantsAsyncStub

ResultT = TypeVar("ResultT")
RequestT = TypeVar("RequestT", contravariant=True)
ResponseT = TypeVar("ResponseT", covariant=True)

Metadata = tuple[tuple[str, str], ...]

MAX_MESSAGE_BYTES = 64 * 1024**2

CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # By default a channel that lost its server waits up to two minutes before it looks again.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 3000),
    # A watch on a connection that died silently ends with UNAVAILABLE instead of hanging for ever.
    # The gateway allows a ping every 10 s; gRPC's servers by default only one in five minutes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Calls are retried here, where RetryInfo can be read.
    ("grpc.enable_retries", 0),
    # Two clients of one process may hold different keys and must not share a connection's fate.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", f"mlops/{__version__}"),
)


class UnaryMethod(Protocol[RequestT, ResponseT]):
    """A unary method of an asynchronous stub."""

    def __call__(self, request: RequestT, *, timeout: float | None, metadata: Metadata) -> Awaitable[ResponseT]:
        """Starts the call."""


class Connection:
    """A gateway as seen by one caller. Opened at the first call, in the event loop that makes it."""

    def __init__(self, endpoint: Endpoint, *, timeout_seconds: float, retry: RetryPolicy) -> None:
        self.endpoint = endpoint
        self.retry = retry
        self.timeout_seconds = timeout_seconds
        self.metadata: Metadata = (("authorization", f"Bearer {endpoint.api_key}"),) if endpoint.api_key else ()
        self._channel: grpc.aio.Channel | None = None
        # A stub prepares every method of its service: too much to do again for each prediction.
        self._stubs: dict[Callable[[grpc.aio.Channel], Any], Any] = {}
        self._upload_channel: grpc.Channel | None = None
        self._closed = False

    @property
    def jobs(self) -> JobsAsyncStub:
        """The stub of the service Jobs."""
        stub: JobsAsyncStub = self._stub(JobsStub)
        return stub

    @property
    def datasets(self) -> DatasetsAsyncStub:
        """The stub of the service Datasets."""
        stub: DatasetsAsyncStub = self._stub(DatasetsStub)
        return stub

    @property
    def models(self) -> ModelsAsyncStub:
        """The stub of the service Models."""
        stub: ModelsAsyncStub = self._stub(ModelsStub)
        return stub

    @property
    def tenants(self) -> TenantsAsyncStub:
        """The stub of the service Tenants."""
        stub: TenantsAsyncStub = self._stub(TenantsStub)
        return stub

    @property
    def uploads(self) -> DatasetsStub:
        """The blocking stub of the service Datasets, over a channel of its own."""
        if self._closed:
            raise errors.FailedPrecondition("the client is closed; create a new one")
        if self._upload_channel is None:
            options = list(CHANNEL_OPTIONS)
            if self.endpoint.tls:
                credentials = grpc.ssl_channel_credentials(root_certificates=self.endpoint.ca_pem)
                self._upload_channel = grpc.secure_channel(self.endpoint.target, credentials, options=options)
            else:
                self._upload_channel = grpc.insecure_channel(self.endpoint.target, options=options)
        return DatasetsStub(self._upload_channel)

    async def call(
        self,
        method: UnaryMethod[RequestT, ResponseT],
        request: RequestT,
        *,
        timeout_seconds: float | None = None,
        attempts: int | None = None,
        when_exhausted: bool = False,
    ) -> ResponseT:
        """Makes a unary call, again while the service is away and the deadline allows it.

        when_exhausted: also where a limit is reached and the server says when to come back. Raises the error that the server raised, DeadlineExceeded and Unavailable included.
        """

        def start(remaining: float) -> Awaitable[ResponseT]:
            return method(request, timeout=remaining, metadata=self.metadata)

        return await self.attempt(
            start, timeout_seconds=timeout_seconds, attempts=attempts, when_exhausted=when_exhausted
        )

    async def remove(self, method: UnaryMethod[RequestT, ResponseT], request: RequestT) -> None:
        """Makes a call that deletes. What a repeated call finds gone, the call before it deleted."""
        made = 0

        def start(remaining: float) -> Awaitable[ResponseT]:
            nonlocal made
            made += 1
            return method(request, timeout=remaining, metadata=self.metadata)

        try:
            await self.attempt(start)
        except errors.NotFound:
            if made == 1:
                raise

    async def attempt(
        self,
        start: Callable[[float], Awaitable[ResultT]],
        *,
        timeout_seconds: float | None = None,
        attempts: int | None = None,
        when_exhausted: bool = False,
    ) -> ResultT:
        """Runs `start(seconds left)` until it gives a result, a lasting error, or nothing is left to try."""
        deadline = time.monotonic() + (self.timeout_seconds if timeout_seconds is None else timeout_seconds)
        made = 0
        while True:
            made += 1
            try:
                return await start(max(deadline - time.monotonic(), 0.001))
            except grpc.RpcError as exc:
                error = status.from_rpc_error(exc)
                hint = status.retry_after_seconds(exc)
                shed = when_exhausted and isinstance(error, errors.QuotaExceeded) and hint is not None
                delay = self.retry.delay_seconds(made, hint=hint)
                if shed:
                    # All who were turned away got the same hint, and must not come back together.
                    delay += self.retry.delay_seconds(made)
                last = made >= (self.retry.attempts if attempts is None else attempts)
                passing = shed or isinstance(error, errors.Unavailable)
                if last or not passing or time.monotonic() + delay >= deadline:
                    raise self.explain(error) from exc
            await asyncio.sleep(delay)

    def explain(self, error: errors.MlopsError) -> errors.MlopsError:
        """The error, naming the address where nothing answered there: the server's own errors name what is away."""
        if type(error) is errors.Unavailable and "failed to connect" in error.message.lower():
            return errors.Unavailable(
                f"no gateway answers at {self.endpoint.target} ({error.message}); "
                "check the address, and whether it wants TLS (grpcs://)",
                **error.details,
            )
        return error

    async def close(self) -> None:
        """Ends every call and closes the channel. Closing twice changes nothing."""
        self._closed = True
        channel, self._channel = self._channel, None
        self._stubs.clear()
        if channel is not None:
            await channel.close(None)
        uploads, self._upload_channel = self._upload_channel, None
        if uploads is not None:
            uploads.close()

    def _stub(self, kind: Callable[[grpc.aio.Channel], Any]) -> Any:
        channel = self._open()
        if kind not in self._stubs:
            self._stubs[kind] = kind(channel)
        return self._stubs[kind]

    def _open(self) -> grpc.aio.Channel:
        if self._closed:
            raise errors.FailedPrecondition("the client is closed; create a new one")
        if self._channel is None:
            if self.endpoint.tls:
                credentials = grpc.ssl_channel_credentials(root_certificates=self.endpoint.ca_pem)
                self._channel = grpc.aio.secure_channel(self.endpoint.target, credentials, options=CHANNEL_OPTIONS)
            else:
                self._channel = grpc.aio.insecure_channel(self.endpoint.target, options=CHANNEL_OPTIONS)
        return self._channel
