"""A model that a job registered, reloaded by people with MLflow's own client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlops.tracking.credentials import Account
from tests.fixtures.stack import RunningStack

ROWS, HOLDOUT = 240, 0.25
LOAD = """
import json, sys
import mlflow
import pandas as pd

model = mlflow.sklearn.load_model(sys.argv[1])
rows = pd.read_parquet(sys.argv[2])
run = mlflow.get_run(sys.argv[3])
print(json.dumps({
    "predictions": [str(one) for one in model.predict(rows)],
    "pyfunc": [str(one) for one in mlflow.pyfunc.load_model(sys.argv[1]).predict(rows)],
    "status": run.info.status,
    "accuracy": run.data.metrics["holdout_accuracy"],
    "job": run.data.tags["mlops.job_id"],
}))
"""


def shop() -> pd.DataFrame:
    random = np.random.default_rng(6)
    size, colour = random.normal(size=ROWS), random.choice(["red", "green", "blue"], ROWS)
    sold = np.where((size > 0.3) ^ (colour == "red") ^ (random.random(ROWS) < 0.1), "sold", "kept")
    return pd.DataFrame({"size": size, "colour": colour, "day": np.arange(ROWS), "sold": sold})


@pytest.mark.timeout(300)
def test_a_registered_model_predicts_in_mlflow_what_its_report_says(stack: RunningStack, tmp_path: Path) -> None:
    slug, key = stack.new_tenant()
    prepare = ColumnTransformer([("colour", OneHotEncoder(), ["colour"])], remainder="passthrough")
    estimator = make_pipeline(prepare, RandomForestClassifier(n_estimators=15))
    with stack.client(key) as client:
        dataset = client.datasets.upload(shop(), name="shop")
        # The latest rows are the ones kept apart, so that we know which they are.
        job = client.train(
            estimator,
            dataset,
            target="sold",
            name="shop",
            time_column="day",
            features=["size", "colour"],
            holdout=HOLDOUT,
        )
        result = job.wait(timeout=150)
    latest = shop().tail(int(ROWS * HOLDOUT))
    rows = tmp_path / "rows.parquet"
    latest[["size", "colour"]].to_parquet(rows)
    account = Account.of_tenant(stack.config.secret_key, slug)
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "MLOPS_"))},
        "MLFLOW_TRACKING_URI": stack.mlflow_url,
        "MLFLOW_TRACKING_USERNAME": account.user,
        "MLFLOW_TRACKING_PASSWORD": account.password,
        "MLFLOW_WORKSPACE": slug,
        # MLflow asks this of whoever loads any model at all.
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "PYTHONWARNINGS": "ignore",
    }
    done = subprocess.run(
        [sys.executable, "-c", LOAD, "models:/shop/1", str(rows), result.run_id],
        env=variables,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    truth = latest["sold"].to_numpy()
    assert said["predictions"] == said["pyfunc"]
    predicted = np.array(said["predictions"])
    assert np.mean(predicted == truth) == pytest.approx(result.report.holdout["accuracy"])
    matrix = result.report.confusion_matrix
    assert matrix is not None
    counts = [[int(np.sum((truth == one) & (predicted == other))) for other in matrix.labels] for one in matrix.labels]
    assert counts == [list(row) for row in matrix.counts]
    assert said["status"] == "FINISHED"
    assert said["job"] == job.id
    assert said["accuracy"] == pytest.approx(result.report.holdout["accuracy"])
