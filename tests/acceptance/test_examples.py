"""The examples run as they stand, and the README shows the first of them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.shell import Shell
from tests.fixtures.stack import RunningStack

ROOT = Path(__file__).parents[2]
LAST_LINES = {
    "quickstart.py": "models:/tumours/1 accuracy on rows never seen: 0.9",
    "pipeline.py": "returns 1 was trained on ds-",
    "async_watch.py": "best: ",
    "open_inference.py": "iris 1 answered 3 rows of an unmodified client",
    "batch.py": "leavers 1 answers online as in the batch",
}


def readme_example() -> str:
    """The one block of Python in the README."""
    [block] = (ROOT / "README.md").read_text().split("```python\n")[1:]
    return block.partition("```")[0]


def run(code: Path, stack: RunningStack, directory: Path) -> str:
    """Runs a script where `mlops up` says how to, for a tenant of its own; gives its last line."""
    _, key = stack.new_tenant()
    done = subprocess.run(
        [sys.executable, "-W", "error", str(code)],
        env={**stack.environment, "MLOPS_API_KEY": key},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(LAST_LINES)


@pytest.mark.parametrize("name", [name for name in LAST_LINES if name != "quickstart.py"])
def test_an_example_runs_as_it_stands(name: str, stack: RunningStack, tmp_path: Path) -> None:
    assert run(ROOT / "examples" / name, stack, tmp_path).startswith(LAST_LINES[name])


def test_the_readmes_example_is_short_and_runs_when_it_is_pasted(stack: RunningStack, tmp_path: Path) -> None:
    block = readme_example()
    assert block == (ROOT / "examples" / "quickstart.py").read_text()
    assert len(block.splitlines()) <= 20
    pasted = tmp_path / "pasted.py"
    pasted.write_text(block)
    assert run(pasted, stack, tmp_path).startswith(LAST_LINES["quickstart.py"])


def test_the_quickstarts_commands_run_in_their_order(stack: RunningStack, tmp_path: Path) -> None:
    text = (ROOT / "docs" / "quickstart.md").read_text()
    [data] = text.split("```python\n")[1:]
    subprocess.run([sys.executable, "-c", data.partition("```")[0]], cwd=tmp_path, timeout=120, check=True)
    _, key = stack.new_tenant()
    variables = {**stack.environment, "MLOPS_API_KEY": key, "MLOPS_CONFIG": str(tmp_path / "config.toml")}
    shell = Shell(directory=tmp_path, environment=variables)
    commands = [line.strip() for line in text.splitlines() if line.startswith("    mlops ")]
    assert commands.pop(0) == "mlops up"
    assert len(commands) >= 8
    said = [shell.mlops(*shlex.split(command)[1:]) for command in commands]
    assert "churn, version 2" in "".join(said)
