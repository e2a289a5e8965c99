"""From submit to a registered model, on every real part at once."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestClassifier

from mlops import Client
from mlops.jobs.job import JobState


def churn(rows: int = 400) -> pd.DataFrame:
    """A table with a signal in it."""
    random = np.random.default_rng(0)
    age, plan = random.integers(18, 80, rows), random.choice(["basic", "plus", "pro"], rows)
    left = (age < 35) ^ (plan == "pro") ^ (random.random(rows) < 0.05)
    return pd.DataFrame({"age": age, "plan": plan, "spend": random.normal(50, 10, rows), "left": left})


def test_a_model_is_trained_registered_and_found_with_its_lineage(tenant_client: Client) -> None:
    dataset = tenant_client.datasets.upload(churn(), name="churn")
    job = tenant_client.train(None, dataset, target="left", name="churn", folds=3, labels={"team": "red"})
    result = job.wait(timeout=120)
    assert result.model_uri == "models:/churn/1"
    assert {summary.name for summary in result.report.cross_validation} >= {"accuracy", "roc_auc"}
    assert next(s for s in result.report.cross_validation if s.name == "accuracy").mean > 0.8
    version = tenant_client.models.version("churn", 1)
    assert (version.job_id, version.run_id, version.dataset_sha256) == (job.id, result.run_id, dataset.sha256)
    assert version.library_versions["scikit-learn"]
    assert [column.name for column in version.signature.inputs] == ["age", "plan", "spend"]
    assert [found.id for found in tenant_client.jobs.list(labels={"team": "red"})] == [job.id]


def test_an_estimator_object_trains_as_it_is(tenant_client: Client) -> None:
    dataset = tenant_client.datasets.upload(churn().drop(columns="plan"), name="churn")
    job = tenant_client.train(RandomForestClassifier(n_estimators=20), dataset, target="left")
    result = job.wait(timeout=120)
    assert result.model_uri.startswith("models:/m-")
    assert job.refresh().state is JobState.SUCCEEDED
    assert list(tenant_client.models.list()) == []
