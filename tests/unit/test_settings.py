"""What a machine or a container has to give."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops import settings


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(settings, "CGROUP", tmp_path)
    return tmp_path


def test_without_a_container_the_machine_counts(container: Path) -> None:
    whole = settings.memory_for_jobs_bytes()
    cores = settings.machine_cores()
    (container / "cpu.max").write_text("max 100000\n")
    (container / "memory.max").write_text("max\n")
    assert (settings.machine_cores(), settings.memory_for_jobs_bytes()) == (cores, whole)


def test_a_containers_limits_count(container: Path) -> None:
    (container / "cpu.max").write_text("100000 100000\n")
    (container / "memory.max").write_text(f"{1024**3}\n")
    assert settings.machine_cores() == 1
    assert settings.memory_for_jobs_bytes() == int(0.8 * 1024**3)


def test_half_a_core_is_still_one_to_give(container: Path) -> None:
    (container / "cpu.max").write_text("50000 100000\n")
    assert settings.machine_cores() == 1
