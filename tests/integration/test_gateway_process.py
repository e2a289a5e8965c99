"""`python -m mlops.gateway`: starts, says that it is ready, and stops when asked to."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mlops import errors, names
from mlops.v1 import tenants_pb2
from mlops.wire.status import from_rpc_error, retry_after_seconds
from tests.fixtures.gateway import Caller
from tests.fixtures.temporal import free_port

START_SECONDS = 40


class Process:
    """A gateway's process, and the log that it writes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr or ():
            self._lines.put(line)
        self._lines.put(None)

    def wait_for(self, event: str) -> dict[str, Any]:
        """The first line of the log that tells of that event."""
        while (line := self._lines.get(timeout=START_SECONDS)) is not None:
            entry: dict[str, Any] = json.loads(line)
            if entry["event"] == event:
                return entry
        raise AssertionError(f"the gateway ended without {event!r}")

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=20)


@contextmanager
def started(root: Path, temporal: str, key: str) -> Iterator[Process]:
    settings = {
        "MLOPS_LISTEN": "127.0.0.1:0",
        "MLOPS_TEMPORAL_ADDRESS": temporal,
        "MLOPS_STORAGE_URL": f"file://{root / 'store'}",
        "MLOPS_DATABASE_URL": f"sqlite+aiosqlite:///{root / 'gateway.db'}",
        "MLOPS_MLFLOW_URL": f"http://127.0.0.1:{free_port()}",
        "MLOPS_MLFLOW_ADMIN_PASSWORD": "unused-password",
        "MLOPS_SECRET_KEY": "0123456789abcdef0123456789abcdef",
        "MLOPS_BOOTSTRAP_ADMIN_KEY": key,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops.gateway"], env={**os.environ, **settings}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield Process(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=20)
        if process.stderr is not None:
            process.stderr.close()


def test_it_serves_with_its_bootstrap_key_and_stops_cleanly(temporal_address: str, tmp_path: Path) -> None:
    key = names.new_api_key()[2]
    for _ in range(2):  # again on the same database
        with started(tmp_path, temporal_address, key) as gateway:
            port = gateway.wait_for("ready")["port"]
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING
                admin = Caller(channel, key)
                admin.tenants("ListTenants", tenants_pb2.ListTenantsRequest())
                with pytest.raises(grpc.RpcError) as caught:
                    admin.tenants("CreateTenant", tenants_pb2.CreateTenantRequest(slug="acme"))
                assert type(from_rpc_error(caught.value)) is errors.TrackingUnavailable
                assert retry_after_seconds(caught.value) is not None
            assert gateway.terminate() == 0
            gateway.wait_for("stopped")


def test_it_can_be_stopped_while_it_waits_for_temporal(tmp_path: Path) -> None:
    with started(tmp_path, f"127.0.0.1:{free_port()}", names.new_api_key()[2]) as gateway:
        gateway.wait_for("starting")
        assert gateway.terminate() == 0
