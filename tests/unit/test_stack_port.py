"""The embedded stack's hold on its gateway's port."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import grpc
import pytest

from mlops import errors
from mlops.gateway.server import OPTIONS
from mlops.local.config import StackConfig
from mlops.local.port import reserve
from tests.fixtures.temporal import free_port


async def test_a_port_on_which_a_gateway_serves_is_refused_and_had_again_after_its_end() -> None:
    port = free_port()
    reserve(port).close()
    server = grpc.aio.server(options=OPTIONS)
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
    with pytest.raises(errors.FailedPrecondition, match=f"Port {port} is taken.*--port"):
        reserve(port)
    await server.stop(0)
    reserve(port).close()


def test_a_held_port_is_had_by_nobody_else() -> None:
    port = free_port()
    with reserve(port):
        with pytest.raises(errors.FailedPrecondition, match="taken"):
            reserve(port)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


def test_a_stack_that_was_made_before_it_had_a_serving_host_is_opened_and_given_one(tmp_path: Path) -> None:
    kept = StackConfig.open(tmp_path).model_dump(mode="json")
    for name in ("serving", "serving_health"):
        del kept["ports"][name]
    (tmp_path / "stack.json").write_text(json.dumps(kept))
    opened = StackConfig.open(tmp_path)
    assert opened.ports.serving
    assert opened.ports.serving_health
    assert opened.model_dump(exclude={"ports"}) == StackConfig.model_validate(kept).model_dump(exclude={"ports"})
    assert opened.ports.gateway == kept["ports"]["gateway"]
    opened.save(tmp_path)
    assert StackConfig.open(tmp_path) == opened


def test_two_stacks_that_start_at_once_take_different_ports(tmp_path_factory: pytest.TempPathFactory) -> None:
    first = StackConfig.open(tmp_path_factory.mktemp("first"))
    with reserve(first.ports.gateway):
        second = StackConfig.open(tmp_path_factory.mktemp("second"))
        assert second.ports.gateway != first.ports.gateway
