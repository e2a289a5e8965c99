"""The serving host's process: its parts wired together, served until it is asked to stop."""

from __future__ import annotations

import gc

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mlops.errors import Unavailable
from mlops.logs import configure_logs
from mlops.settings import ServingSettings
from mlops.storage.cache import HostCache
from mlops.storage.objects import ObjectStore
from mlops.workers.serving.connections import Connections
from mlops.workers.serving.files import ModelFiles
from mlops.workers.serving.host import Host
from mlops.workers.signals import stop_event

_log = structlog.get_logger(__name__)


async def run(settings: ServingSettings) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what it holds within the grace. Raises Unavailable."""
    configure_logs(settings.log_format, settings.log_level)
    stop = stop_event()
    store = ObjectStore.open(settings.storage_url, settings.storage_options)
    host = Host(settings, ModelFiles(store, HostCache(settings.scratch_dir / "cache", settings.cache_bytes)))
    connections = Connections(host)
    status = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stubs do not know it
    # A second host on the same port is a mistake, and is told so.
    server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    try:
        await host.start()
        try:
            address, _, port = settings.listen.rpartition(":")
            await connections.listen(address.strip("[]"), int(port))
            server.add_insecure_port(settings.health_listen)
        except (OSError, RuntimeError) as error:
            raise Unavailable(f"cannot listen: {error}") from error
        await server.start()
        await status.set("", health_pb2.HealthCheckResponse.SERVING)
        gc.collect()
        gc.freeze()
        _log.info("ready", listen=settings.listen, cores=settings.max_children)
        await stop.wait()
        _log.info("stopping", grace_seconds=settings.shutdown_grace.total_seconds())
        await status.enter_graceful_shutdown()
        connections.refuse()
    finally:
        await host.close(settings.shutdown_grace)
        connections.close()
        await server.stop(0)
        store.close()
    _log.info("stopped")
