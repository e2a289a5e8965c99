"""What `make demo` runs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.fixtures.shell import Shell


@pytest.mark.timeout(300)
def test_the_demo_tells_its_whole_story(tmp_path: Path) -> None:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    said = Shell(directory=tmp_path, environment=variables).run("demo")
    assert said.code == 0, said.out + said.err
    story = [
        r"1\. The stack is up: gateway 127\.0\.0\.1:\d+, MLflow http://127\.0\.0\.1:\d+",
        r"2\. Tenant clinic: ",
        r"2\. Tenant post: ",
        r"3\. Three jobs, two tenants",
        r"Results",
        r"clinic .*breast_cancer .*accuracy .*0\.9\d\d .*models:/tumours/1",
        r"clinic .*diabetes .*r2 .*models:/progression/1",
        r"post .*digits .*accuracy .*0\.9\d\d ± 0\.\d+ .*models:/digits/1",
        r"4\. A batch job: tumours over breast_cancer, 100 rows a shard",
        r"569 rows in 6 files, accuracy 0\.9\d\d",
        r"5\. Online: three rows of breast_cancer through the gateway in \d+\.\d ms",
        r"prediction",
        (
            r"6\. The wall: post asks for clinic's job and model and hears: job 'train-[0-9a-f]+' does not exist; "
            r"model 'tumours' does not exist"
        ),
        r"7\. In MLflow: http://127\.0\.0\.1:\d+",
        r"workspace clinic, experiment tumours, run [0-9a-f]{32}",
    ]
    place = 0
    for line in story:
        found = re.compile(line).search(said.out, place)
        assert found is not None, f"{line!r} does not come next in:\n{said.out}"
        place = found.end()
    assert list(tmp_path.iterdir()) == []
