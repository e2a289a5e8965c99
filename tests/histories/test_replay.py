"""Jobs that were begun by an earlier version of the workflows can be finished by this one."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from mlops import names
from mlops.jobs.report import TrainingOutcome
from mlops.jobs.training import TrainingJob
from mlops.workers.sandbox import SANDBOX, WORKFLOWS
from tests.histories.record import DIRECTORY, HERE, PROCESS, STORIES, name_of

FILES = sorted(HERE.glob("*.json"))
# What would betray the machine that a history was recorded on.
HOME = str(Path.home())
ROOT = str(HERE.parents[1])


@workflow.defn(name=names.TRAINING_WORKFLOW, sandboxed=False)
class Changed:
    """A training workflow that begins with something else."""

    @workflow.run
    async def run(self, job: TrainingJob) -> TrainingOutcome:
        await workflow.sleep(1)
        raise AssertionError("a replay does not come here")


def history_of(file: Path) -> WorkflowHistory:
    told = json.loads(file.read_text())
    return WorkflowHistory.from_json(told.pop("workflowId"), told)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
async def test_a_recorded_history_replays(file: Path) -> None:
    replayer = Replayer(workflows=WORKFLOWS, workflow_runner=SANDBOX, data_converter=pydantic_data_converter)
    async with asyncio.timeout(30):
        result = await replayer.replay_workflow(history_of(file), raise_on_replay_failure=False)
    assert result.replay_failure is None


def test_every_story_is_recorded() -> None:
    assert {name_of(story) for story in STORIES} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recorded_history_tells_nothing_of_its_machine(file: Path) -> None:
    text = file.read_text()
    for event in json.loads(text)["events"]:
        text += "".join(base64.b64decode(data).decode() for data in _payloads(event))
    for betraying in (HOME + "/", ROOT, "/tmp", "stackTrace", '"File '):
        assert betraying not in text
    assert PROCESS.search(text) is None
    assert file.stem != "ingest-copied" or DIRECTORY in text


async def test_a_workflow_whose_steps_changed_is_found_out() -> None:
    file = next(file for file in FILES if file.stem == "training-registered")
    replayer = Replayer(workflows=[Changed], data_converter=pydantic_data_converter)
    async with asyncio.timeout(30):
        result = await replayer.replay_workflow(history_of(file), raise_on_replay_failure=False)
    assert isinstance(result.replay_failure, NondeterminismError)


def _payloads(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["data"]] if isinstance(value.get("data"), str) else []
        return own + [found for one in value.values() for found in _payloads(one)]
    if isinstance(value, list):
        return [found for one in value for found in _payloads(one)]
    return []
