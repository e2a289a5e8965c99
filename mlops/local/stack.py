"""The embedded stack: Temporal, MLflow, gateway, IO worker, CPU worker and serving host as processes on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import grpc.aio
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlops import errors
from mlops.client import AsyncClient
from mlops.local import mlflow_server, temporal_server
from mlops.local.config import StackConfig
from mlops.local.port import reserve
from mlops.local.process import Supervised, kill_leftover

READY_SECONDS = 180.0
PROCESSES = "processes.json"


@dataclass(kw_only=True)
class Stack:
    """`async with Stack(directory=…) as stack:` runs everything until the block ends; jobs go on at the next start."""

    directory: Path
    # Ports to take instead of those that are kept or free: gateway, temporal, temporal_ui, mlflow.
    ports: Mapping[str, int | None] = field(default_factory=dict)
    grace_seconds: float = 10.0
    # URL prefixes to register datasets from, beside the directory's own; {tenant} stands for the tenant's slug.
    source_roots: tuple[str, ...] = ()
    _config: StackConfig | None = None
    _parts: dict[str, Supervised] = field(default_factory=dict)
    _lock: IO[str] | None = None
    _port: socket.socket | None = None
    _pids: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def config(self) -> StackConfig:
        """Ports and secrets. Raises FailedPrecondition before the start."""
        if self._config is None:
            raise errors.FailedPrecondition("The stack is not started")
        return self._config

    @property
    def address(self) -> str:
        """host:port of the gateway."""
        return f"127.0.0.1:{self.config.ports.gateway}"

    @property
    def temporal_ui_url(self) -> str:
        """Temporal's page."""
        return f"http://127.0.0.1:{self.config.ports.temporal_ui}"

    @property
    def mlflow_url(self) -> str:
        """MLflow's server and page."""
        return f"http://127.0.0.1:{self.config.ports.mlflow}"

    @property
    def parts(self) -> dict[str, Supervised]:
        """The processes by name: temporal, mlflow, gateway, worker-io, worker-cpu, serving."""
        return self._parts

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        self._take_lock()
        self._end_leftovers()
        self._take_port()
        self.config.save(self.directory)
        for name in ("logs", "storage", "mlflow", "scratch"):
            (self.directory / name).mkdir(exist_ok=True)
        await asyncio.gather(self._start_temporal(), self._start_mlflow())
        self._release_port()
        await self._add("gateway", [sys.executable, "-m", "mlops.gateway"], self._gateway_environment())
        await self._add("worker-io", [sys.executable, "-m", "mlops.workers.io"], self._io_environment())
        await self._add("worker-cpu", [sys.executable, "-m", "mlops.workers.cpu"], self._cpu_environment())
        await self._add("serving", [sys.executable, "-m", "mlops.workers.serving"], self._serving_environment())
        await self._parts["gateway"].ready(_serving(self.address), READY_SECONDS)
        await self._parts["serving"].ready(_serving(f"127.0.0.1:{self.config.ports.serving_health}"), READY_SECONDS)
        await self._recognise_gateway()
        await self._first_tenant()

    async def _stop(self) -> None:
        # Workers before the server, or their last results find nobody.
        for names_ in (("worker-cpu", "worker-io"), ("gateway",), ("serving",), ("mlflow", "temporal")):
            await asyncio.gather(
                *(self._parts[name].stop(self.grace_seconds) for name in names_ if name in self._parts)
            )
        self._release_port()
        if self._lock is not None:
            self._lock.close()

    async def _start_temporal(self) -> None:
        ports = self.config.ports
        command = temporal_server.temporal_command(
            port=ports.temporal, ui_port=ports.temporal_ui, database=self.directory / "temporal.sqlite"
        )
        await self._add("temporal", command, os.environ)
        ready = temporal_server.wait_ready(f"127.0.0.1:{ports.temporal}", seconds=READY_SECONDS)
        await self._parts["temporal"].ready(ready, READY_SECONDS)

    async def _start_mlflow(self) -> None:
        server = mlflow_server.mlflow_command(
            self.directory / "mlflow",
            port=self.config.ports.mlflow,
            admin_password=self.config.mlflow_admin_password,
            secret_key=self.config.secret_key,
        )
        await self._add("mlflow", server.argv, server.env)
        ready = mlflow_server.wait_ready(self.mlflow_url, timedelta(seconds=READY_SECONDS))
        await self._parts["mlflow"].ready(ready, READY_SECONDS)

    async def _add(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        part = Supervised(
            name=name,
            command=command,
            environment=environment,
            log_file=self.directory / "logs" / f"{name}.log",
            started=self._note,
        )
        self._parts[name] = part
        await part.start()

    def _common_environment(self) -> dict[str, str]:
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")},
            "MLOPS_TEMPORAL_ADDRESS": f"127.0.0.1:{self.config.ports.temporal}",
            # Below the supervisor's own, so that what is handed back is handed back before the end.
            "MLOPS_SHUTDOWN_GRACE": f"PT{self.grace_seconds / 2:.3f}S",
            "MLOPS_STORAGE_URL": (self.directory / "storage").absolute().as_uri(),
            "PYTHONUNBUFFERED": "1",
        }

    def _tracking_environment(self) -> dict[str, str]:
        imports = (self.directory / "imports").absolute().as_uri()
        return {
            **self._common_environment(),
            "MLOPS_MLFLOW_URL": self.mlflow_url,
            "MLOPS_SECRET_KEY": self.config.secret_key,
            # Files to be registered by their path are put here, a directory a tenant.
            "MLOPS_SOURCE_ROOTS": json.dumps([f"{imports}/{{tenant}}", *self.source_roots]),
        }

    def _gateway_environment(self) -> dict[str, str]:
        return {
            **self._tracking_environment(),
            "MLOPS_LISTEN": self.address,
            "MLOPS_DATABASE_URL": f"sqlite+aiosqlite:///{self.directory.absolute() / 'gateway.sqlite'}",
            "MLOPS_MLFLOW_ADMIN_USER": mlflow_server.ADMIN_USER,
            "MLOPS_MLFLOW_ADMIN_PASSWORD": self.config.mlflow_admin_password,
            "MLOPS_BOOTSTRAP_ADMIN_KEY": self.config.admin_key,
            "MLOPS_SERVING_TARGETS": json.dumps([f"127.0.0.1:{self.config.ports.serving}"]),
        }

    def _io_environment(self) -> dict[str, str]:
        return self._tracking_environment()

    def _cpu_environment(self) -> dict[str, str]:
        return {**self._common_environment(), "MLOPS_SCRATCH_DIR": str(self.directory.absolute() / "scratch")}

    def _serving_environment(self) -> dict[str, str]:
        ports = self.config.ports
        return {
            **self._cpu_environment(),
            "MLOPS_LISTEN": f"127.0.0.1:{ports.serving}",
            "MLOPS_HEALTH_LISTEN": f"127.0.0.1:{ports.serving_health}",
        }

    async def _recognise_gateway(self) -> None:
        """Whether it is ours that answers: another one, on a port that was free a moment ago, does not know our key."""
        async with AsyncClient(self.address, self.config.admin_key) as client:
            try:
                await anext(client.tenants.list(page_size=1), None)
            except errors.Unauthenticated as error:
                raise errors.FailedPrecondition(
                    f"Another gateway serves at {self.address}; end it, or give another --port"
                ) from error

    async def _first_tenant(self) -> None:
        """A tenant to begin with. Its key is kept, since it is shown only once."""
        if self.config.tenant_key:
            return
        async with AsyncClient(self.address, self.config.admin_key) as client:
            created = await client.tenants.create(self.config.tenant, display_name="The first tenant of this stack")
            # Without a key an earlier start made it, and died before it could keep the key.
            key = created.key or await client.keys.create("owner", role="owner", tenant=self.config.tenant)
        self._config = self.config.model_copy(update={"tenant_key": key.secret})
        self.config.save(self.directory)

    def _take_lock(self) -> None:
        self._lock = (self.directory / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise errors.FailedPrecondition(
                f"Another stack runs on {self.directory}; stop it first, or give another --dir"
            ) from error

    def _take_port(self) -> None:
        """Settles the ports, and holds the gateway's: it is the one that several stacks would like to have."""
        self._config = StackConfig.open(self.directory, **self.ports)
        try:
            self._port = reserve(self._config.ports.gateway)
        except errors.FailedPrecondition:
            if self.ports.get("gateway") or StackConfig.is_kept(self.directory):
                raise
            # Another stack was quicker by a moment; what is free now is another port.
            self._config = StackConfig.open(self.directory, **self.ports)
            self._port = reserve(self._config.ports.gateway)

    def _release_port(self) -> None:
        if self._port is not None:
            self._port.close()

    def _note(self, name: str, pid: int) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._pids[name] = (pid, psutil.Process(pid).create_time())
        draft = self.directory / f"{PROCESSES}.draft"
        draft.write_text(json.dumps(self._pids))
        draft.replace(self.directory / PROCESSES)

    def _end_leftovers(self) -> None:
        """Ends what an earlier start that was killed has left running: it holds our ports and files."""
        file = self.directory / PROCESSES
        if file.exists():
            for pid, created in json.loads(file.read_text()).values():
                kill_leftover(pid, created)
            file.unlink()


async def _serving(address: str) -> None:
    """Returns once the gateway, or the serving host, says that it serves."""
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):
                answer = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True, timeout=5.0)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            await asyncio.sleep(0.05)
