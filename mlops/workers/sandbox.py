"""The sandbox that workflows run in."""

from __future__ import annotations

from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from mlops.workflows.batch_inference import BatchInferenceWorkflow
from mlops.workflows.ingest import IngestWorkflow
from mlops.workflows.shards import ShardsWorkflow
from mlops.workflows.training import TrainingWorkflow

WORKFLOWS = (TrainingWorkflow, BatchInferenceWorkflow, ShardsWorkflow, IngestWorkflow)

# Loaded once and shared by all workflows: they are pure, and importing them anew for each costs more than it guards.
SANDBOX = SandboxedWorkflowRunner(
    restrictions=SandboxRestrictions.default.with_passthrough_modules(
        "mlops", "pydantic", "pydantic_core", "annotated_types"
    )
)
