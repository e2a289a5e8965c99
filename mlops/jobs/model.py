"""Registered models and their versions."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from mlops.jobs.value import Value


class SignatureColumn(Value):
    """One column of a model's input or output. `type` is MLflow's: double, long, boolean, string, datetime."""

    name: str
    type: str
    required: bool = True


class Signature(Value):
    """What a model takes and gives."""

    inputs: tuple[SignatureColumn, ...] = ()
    outputs: tuple[SignatureColumn, ...] = ()


class Model(Value):
    """A registered model: a name with numbered versions."""

    name: str
    description: str = ""
    created_at: datetime
    updated_at: datetime
    # 0 where it has none.
    latest_version: int = 0
    # Alias to version number.
    aliases: dict[str, int] = Field(default_factory=dict)


class ModelVersion(Value):
    """One version of a model, with its lineage."""

    model_name: str
    version: int
    created_at: datetime
    job_id: str
    run_id: str
    owner: str
    dataset_id: str
    dataset_sha256: str
    estimator: str
    task: str
    # In lists these stay empty; GetModelVersion fills them.
    metrics: dict[str, float] = Field(default_factory=dict)
    params: dict[str, str] = Field(default_factory=dict)
    signature: Signature = Signature()
    aliases: tuple[str, ...] = ()
    # Versions of python, scikit-learn, numpy, … and of mlops, that trained it.
    library_versions: dict[str, str] = Field(default_factory=dict)
    # Where its files are: mlflow-artifacts:/…
    artifact_uri: str = ""
    size_bytes: int = 0
