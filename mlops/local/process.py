"""One process of the embedded stack: started, watched, started again when it dies, and ended with its children."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from mlops import errors

log = structlog.get_logger(__name__)

PR_SET_PDEATHSIG = 1
# A process that lived this long starts its restarts anew; one that dies at once waits longer each time.
STEADY_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 10.0
# Deaths before it was ever ready.
HOPELESS_RESTARTS = 3
# How long a killed process of an earlier start may take to be gone.
LEFTOVER_SECONDS = 5.0


@dataclass(kw_only=True)
class Supervised:
    """A program, its whole environment, and the file that its output is appended to."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_file: Path
    # Told of each process that was started, so that a later start can end what this one left behind.
    started: Callable[[str, int], None]
    restarts: int = 0
    _process: asyncio.subprocess.Process | None = field(default=None)
    _supervisor: asyncio.Task[None] | None = field(default=None)

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Starts it and keeps it running until `stop`."""
        await self._spawn()
        self._supervisor = asyncio.create_task(self._supervise())

    async def ready(self, check: Awaitable[None], seconds: float) -> None:
        """Waits for a check of its readiness. Raises FailedPrecondition when it dies at once, or is late."""
        waiting = asyncio.ensure_future(check)
        deadline = time.monotonic() + seconds
        while not waiting.done() and self.restarts < HOPELESS_RESTARTS and time.monotonic() < deadline:
            await asyncio.wait((waiting,), timeout=0.1)
        if waiting.done():
            return await waiting
        waiting.cancel()
        raise errors.FailedPrecondition(
            f"{self.name} does not start; the end of {self.log_file}:\n{self._last_words()}"
        )

    def _last_words(self) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").strip().splitlines()[-5:])

    async def stop(self, grace_seconds: float) -> None:
        """Asks it to end, and kills it with all of its children after the grace."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace_seconds)
        kill_group(self._process.pid)
        await self._process.wait()

    async def _spawn(self) -> None:
        with self.log_file.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # A group of its own: Ctrl-C reaches the stack alone, which then ends its parts in order.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )
        self.started(self.name, self._process.pid)

    async def _supervise(self) -> None:
        pause = 0.1
        while self._process is not None:
            begun = time.monotonic()
            code = await self._process.wait()
            kill_group(self._process.pid)
            pause = 0.1 if time.monotonic() - begun > STEADY_SECONDS else min(pause * 2, LONGEST_PAUSE_SECONDS)
            log.warning("a process died; starting it again", process=self.name, exit_code=code, log=str(self.log_file))
            await asyncio.sleep(pause)
            self.restarts += 1
            await self._spawn()


def kill_group(group: int) -> None:
    """SIGKILL to whatever is left of a process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def kill_leftover(pid: int, created: float) -> None:
    """Ends the group of a process of an earlier start, if that very process, or a child of its group, still runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        if abs(psutil.Process(pid).create_time() - created) > 1.0:
            return  # the number was given to another process since
    killed = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == pid:
                process.kill()
                killed.append(process)
    # Their ports and files are free once they are gone.
    psutil.wait_procs(killed, timeout=LEFTOVER_SECONDS)


def _die_with_parent() -> None:
    """Asks the kernel to end this process should the stack be killed (Linux; elsewhere the next start does it)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
