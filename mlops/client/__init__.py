"""The Python SDK: `Client`, and `AsyncClient`, its asyncio twin with the same names.

    with mlops.Client("gateway:7300", api_key) as client:
        dataset = client.datasets.upload(frame, name="churn")
        job = client.train(RandomForestClassifier(), dataset, target="left", name="churn-model")
        print(job.wait().report.holdout)
        print(client.predict("churn-model", frame.head()))

Importing this package loads neither gRPC nor scikit-learn: names are resolved when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops.client.aio import AsyncClient as AsyncClient
    from mlops.client.batchhandle import AsyncBatchHandle as AsyncBatchHandle
    from mlops.client.blocking.batchhandle import BatchHandle as BatchHandle
    from mlops.client.blocking.client import Client as Client
    from mlops.client.blocking.handle import JobHandle as JobHandle
    from mlops.client.handle import AsyncJobHandle as AsyncJobHandle
    from mlops.client.handle import JobMetrics as JobMetrics
    from mlops.client.prediction import Prediction as Prediction
    from mlops.client.tenants import CreatedTenant as CreatedTenant

_HOMES = {
    "AsyncBatchHandle": "mlops.client.batchhandle",
    "AsyncClient": "mlops.client.aio",
    "AsyncJobHandle": "mlops.client.handle",
    "BatchHandle": "mlops.client.blocking.batchhandle",
    "Client": "mlops.client.blocking.client",
    "CreatedTenant": "mlops.client.tenants",
    "JobHandle": "mlops.client.blocking.handle",
    "JobMetrics": "mlops.client.handle",
    "Prediction": "mlops.client.prediction",
}

__all__ = [
    "AsyncBatchHandle",
    "AsyncClient",
    "AsyncJobHandle",
    "BatchHandle",
    "Client",
    "CreatedTenant",
    "JobHandle",
    "JobMetrics",
    "Prediction",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
