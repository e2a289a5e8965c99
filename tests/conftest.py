"""Every test carries the marker of its tier, which is the name of its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = [
    "tests.fixtures.fake_platform",
    "tests.fixtures.mlflow",
    "tests.fixtures.postgres",
    "tests.fixtures.database",  # behind postgres, which it imports
    "tests.fixtures.s3",
    "tests.fixtures.stack",
    "tests.fixtures.chaos",  # behind stack, which it imports
    "tests.fixtures.temporal",
    "tests.fixtures.serving",  # behind temporal, which it imports
    "tests.fixtures.scheduler",  # behind temporal, whose server it uses
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    root = Path(__file__).parent
    for item in items:
        tier = item.path.relative_to(root).parts[0]
        item.add_marker(getattr(pytest.mark, tier))
