"""The stack itself ends in the middle of a job, and goes on with it at the next start."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from mlops.cli import exits
from tests.fixtures.chaos import Bench, in_mid_fit, is_alive, new_bench, poll, steady_fit
from tests.fixtures.stack import RunningStack, launch

pytestmark = pytest.mark.timeout(400)

PARTS = ("temporal", "mlflow", "gateway", "worker-io", "worker-cpu")


class Phoenix:
    """A stack that is ended and started again on its directory."""

    def __init__(self, directory: Path) -> None:
        self.stack = launch(directory)

    def rise(self) -> None:
        self.stack = launch(self.stack.directory)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs for the stack now: its parts, and what they started."""
        up = psutil.Process(self.stack.process.pid)
        return [up, *up.children(recursive=True)]

    def ports(self) -> list[int]:
        return list(self.stack.config.ports.model_dump().values())


@pytest.fixture(scope="module")
def phoenix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phoenix]:
    found = Phoenix(tmp_path_factory.mktemp("restart"))
    try:
        yield found
    finally:
        found.stack.stop()


@pytest.fixture(scope="module")
def tenant(phoenix: Phoenix) -> Iterator[Bench]:
    with ExitStack() as cleanup:
        yield new_bench(phoenix.stack, cleanup)


def test_a_job_goes_on_after_ctrl_c_and_another_start(phoenix: Phoenix, tenant: Bench) -> None:
    job = tenant.start(steady_fit(400), name="stopped")
    in_mid_fit(job)
    processes, ports = phoenix.processes(), phoenix.ports()
    with ThreadPoolExecutor(1) as background:
        watching = background.submit(job.wait, 200)
        asked = time.monotonic()
        phoenix.stack.stop()
        assert time.monotonic() - asked < 30
        assert phoenix.stack.process.returncode == 0
        assert "Stopped" in phoenix.stack.printed
        assert [process for process in processes if is_alive(process)] == []
        assert all(_is_free(port) for port in ports)
        phoenix.rise()
        assert phoenix.ports() == ports
        assert watching.result(200).model_version == 1, "who waited for the job waited through the restart"
    tenant.assert_done_once(job)


def test_a_job_goes_on_after_the_stack_was_killed_and_nothing_of_it_is_left(phoenix: Phoenix, tenant: Bench) -> None:
    job = tenant.start(steady_fit(400), name="killed")
    in_mid_fit(job)
    processes = phoenix.processes()
    assert len(processes) > len(PARTS)
    phoenix.stack.kill()
    # At once: the parts of the killed stack may still be there, and are in the way.
    phoenix.rise()
    assert [process for process in processes if is_alive(process)] == []
    tenant.assert_done_once(job)


def test_orphans_of_a_killed_stack_end_by_themselves(phoenix: Phoenix) -> None:
    processes = phoenix.processes()
    phoenix.stack.kill()
    poll(lambda: not any(map(is_alive, processes)), "the end of the orphans", 45)
    assert all(_is_free(port) for port in phoenix.ports())


def test_a_second_stack_on_the_same_directory_is_refused(chaos_stack: RunningStack) -> None:
    before = (chaos_stack.directory / "stack.json").read_bytes()
    pids = {part: chaos_stack.pid(part) for part in PARTS}
    second = subprocess.run(
        [str(Path(sys.executable).with_name("mlops")), "up", "--dir", str(chaos_stack.directory), "--port", "1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert second.returncode == exits.CONFLICT
    assert "Another stack runs on" in second.stderr
    assert "--dir" in second.stderr
    assert (chaos_stack.directory / "stack.json").read_bytes() == before, "the first one's settings stay as they are"
    assert {part: chaos_stack.pid(part) for part in PARTS} == pids
    assert chaos_stack.process.poll() is None


def test_ctrl_c_while_the_stack_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("mlops")), "up", "--dir", str(tmp_path / "early")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    up = psutil.Process(process.pid)
    try:
        poll(lambda: len(up.children()) >= 2, "the first parts")
        processes = up.children(recursive=True)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=60)
    assert [one for one in processes if is_alive(one)] == []


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
