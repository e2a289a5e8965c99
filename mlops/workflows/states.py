"""A job's state, where lists find it."""

from __future__ import annotations

from temporalio import workflow
from temporalio.common import SearchAttributeKey

with workflow.unsafe.imports_passed_through():
    from mlops import names
    from mlops.jobs.job import JobState

STATE = SearchAttributeKey.for_keyword(names.ATTRIBUTE_STATE)


def show(state: JobState) -> None:
    """Lets everyone know where the job stands."""
    workflow.upsert_search_attributes([STATE.value_set(state.value)])
