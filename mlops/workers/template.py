"""The process that the pool's children are forked from: it has imported what they need, and runs nothing itself.

The worker starts it and speaks to it over one socket, in records of thirteen bytes:

    worker to template    SPAWN child (with the child's end of its connection), STOP child, KILL child
    template to worker    READY, SPAWNED child pid, EXITED child status (a signal's number is negative)

It is the children's parent, so that it may signal and reap them without ever meeting another process of the
same number. Every child leads a session and process group of its own, which is killed whole; what slips out of
its group is adopted by this process and killed too. When the worker goes, however it goes, its end of the
socket closes and every child is killed; when this process goes, the kernel kills its children.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import logging
import os
import selectors
import signal
import socket
import struct
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path

RECORD = struct.Struct("!BIq")
FDS_AT_ONCE = 16
# prctl(2)
PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
# Set before numpy, OpenBLAS or OpenMP load: a child that is given more cores raises its own limit, while one
# thread a core in every child would be many times too many. Arrow's allocator would start a thread, which a
# process that forks must not have.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "LOKY_MAX_CPU_COUNT": "1",
    "JE_ARROW_MALLOC_CONF": "background_thread:false",
}

logger = logging.getLogger(__name__)


class Op(IntEnum):
    """What a record says."""

    SPAWN = 1
    STOP = 2
    KILL = 3
    READY = 4
    SPAWNED = 5
    EXITED = 6


def main(control_fd: int, preload: Sequence[str], program: str) -> None:
    """Runs the template on an inherited socket, until the worker closes it. Children run the module's `serve`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker says when to go
    os.dup2(2, 1)  # what an estimator prints is no output of the worker
    logging.basicConfig(format="%(asctime)s %(levelname)s child %(process)d: %(message)s", level=logging.INFO)
    for name in (*preload, program):
        importlib.import_module(name)
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Collecting a child's garbage would otherwise touch, and so copy, every page that it shares with us.
    gc.collect()
    gc.freeze()
    Template(socket.socket(fileno=control_fd), program).run()


class Template:
    """Forks children on demand, and buries them."""

    def __init__(self, control: socket.socket, program: str) -> None:
        from threadpoolctl import ThreadpoolController

        self._program = program
        self._libraries = ThreadpoolController()
        self._control = control
        self._received = bytearray()
        self._fds: deque[int] = deque()
        self._pids: dict[int, int] = {}
        self._children: dict[int, int] = {}
        self._wake, wake = socket.socketpair()
        self._wake.setblocking(False)
        wake.setblocking(False)
        self._waker = wake
        signal.set_wakeup_fd(wake.fileno())
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def run(self) -> None:
        """Serves the worker until it goes."""
        try:
            self._send(Op.READY)
            while True:
                ready = {key.fileobj for key, _ in self._selector.select()}
                if self._wake in ready:
                    self._wake.recv(4096)
                    self._bury()
                if self._control in ready and not self._obey():
                    return
        except (BrokenPipeError, ConnectionResetError):
            logger.info("the worker is gone")
        finally:
            self._kill_all()

    def _obey(self) -> bool:
        """Takes the worker's orders. False once it is gone."""
        data, fds, _, _ = socket.recv_fds(self._control, 64 * RECORD.size, FDS_AT_ONCE)
        self._fds.extend(fds)
        self._received += data
        while len(self._received) >= RECORD.size:
            op, child, _ = RECORD.unpack_from(self._received)
            del self._received[: RECORD.size]
            if op == Op.SPAWN:
                self._spawn(child, self._fds.popleft())
            elif (pid := self._pids.get(child)) is not None:
                if op == Op.STOP:
                    from mlops.workers.child import STOP_SIGNAL

                    os.kill(pid, STOP_SIGNAL)
                else:
                    _signal_group(pid, signal.SIGKILL)
        return bool(data)

    def _spawn(self, child: int, connection: int) -> None:
        template = os.getpid()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                self._become_child(connection, template)
                status = 0
            except BaseException:
                logger.exception("a child of the pool failed outside of its task")
            finally:
                sys.stderr.flush()
                os._exit(status)
        os.close(connection)
        self._pids[child], self._children[pid] = pid, child
        self._send(Op.SPAWNED, child, pid)

    def _become_child(self, connection: int, template: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != template:
            return
        _prctl(PR_SET_NAME, b"mlops-child")
        _offer_to_oom_killer()
        self._selector.close()
        for end in (self._control, self._wake, self._waker):
            end.close()
        importlib.import_module(self._program).serve(socket.socket(fileno=connection), self._libraries)

    def _bury(self) -> None:
        """Reaps what died. A child's number stays taken until its group is killed, so that no stranger is hit."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None:
                return
            child = self._children.pop(found.si_pid, None)
            if child is not None:
                _signal_group(found.si_pid, signal.SIGKILL)
            _, status = os.waitpid(found.si_pid, 0)
            self._kill_strays()
            if child is not None:
                del self._pids[child]
                self._send(Op.EXITED, child, os.waitstatus_to_exitcode(status))

    def _kill_all(self) -> None:
        """Kills every child, and what turns up as ours once its own parent is dead."""
        for pid in self._children:
            _signal_group(pid, signal.SIGKILL)
        self._children.clear()
        with suppress(ChildProcessError):
            while True:
                self._kill_strays()
                os.waitpid(-1, 0)

    def _kill_strays(self) -> None:
        """Kills orphans that are in no living child's session: what a dead child left behind in other groups."""
        me = os.getpid()
        listing = Path(f"/proc/self/task/{me}/children")
        if not listing.exists():
            return
        for pid in map(int, listing.read_text().split()):
            if pid not in self._children and os.getsid(pid) not in self._children:
                os.kill(pid, signal.SIGKILL)

    def _send(self, op: Op, child: int = 0, value: int = 0) -> None:
        self._control.sendall(RECORD.pack(op, child, value))


def _signal_group(pid: int, number: signal.Signals) -> None:
    """Signals a child's whole group; one that is too young to lead a group has nobody else in it.

    Our own children stay until we reap them, so the number is theirs. Off Linux, a group of which only the dead
    are left answers with a refusal.
    """
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _prctl(option: int, value: int | bytes) -> None:
    """prctl(2), which Linux alone has."""
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}) failed")


def _offer_to_oom_killer() -> None:
    """A machine that runs out of memory shall take a child, not the worker."""
    adjustment = Path("/proc/self/oom_score_adj")
    if adjustment.exists():
        adjustment.write_text("500")
