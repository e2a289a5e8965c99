"""A model trained, then asked: as a batch job over many rows, whose result comes back as a DataFrame, and online.

Run it against `mlops up`, with MLOPS_ADDRESS and MLOPS_API_KEY exported.
"""

from __future__ import annotations

import tempfile

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

import mlops


def customers(rows: int, *, seed: int, older: float = 0.0) -> pd.DataFrame:
    """Customers who leave when they are young or spend little; some have told no age."""
    random = np.random.default_rng(seed)
    age, spend = random.normal(45 + older, 12, rows).round(), random.gamma(2.0, 40.0, rows).round(2)
    plan = random.choice(["basic", "plus", "pro"], rows)
    left = (age < 38) | ((spend < 30) & (plan == "basic"))
    age[random.random(rows) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "customer": [f"c{number:06}" for number in range(rows)],
            "age": age,
            "spend": spend,
            "plan": plan,
            "left": np.where(left, "yes", "no"),
        }
    )


def main() -> None:
    plans = make_column_transformer((OrdinalEncoder(), ["plan"]), remainder="passthrough")
    model = make_pipeline(plans, HistGradientBoostingClassifier(max_iter=40))
    with mlops.Client() as client:
        known = client.datasets.upload(customers(3000, seed=1), name="customers")
        trained = client.train(model, known, target="left", features=["age", "spend", "plan"], name="leavers").wait(
            "5m"
        )

        # The frame is uploaded first. `target` scores the predictions; `carry` keeps columns beside them.
        asked = customers(20_000, seed=2, older=6.0)
        job = client.predict_batch(
            trained, asked, outputs=["predict", "predict_proba"], carry="customer", target="left", rows_per_shard=5000
        )
        report = job.wait("5m").report
        print(f"{report.rows} rows in {len(report.files)} files, accuracy {report.scores['accuracy']:.3f}")
        worst = max(report.drift, key=lambda feature: feature.psi)
        print(f"{worst.feature} moved farthest from the training data: PSI {worst.psi:.2f}")

        predictions = job.result()
        risky = predictions.nlargest(3, "probability[yes]")
        print(risky[["customer", "prediction", "probability[yes]"]].to_string(index=False))

        with tempfile.TemporaryDirectory() as directory:
            paths = job.download(directory)
            print("downloaded", ", ".join(path.name for path in paths))

        # Online: the same rows, answered at once.
        online = client.predict(trained, asked.head(50), outputs=["predict", "predict_proba"])
        agree = (online["prediction"].to_numpy() == predictions["prediction"].head(50).to_numpy()).all()
        print(f"leavers {online.attrs['version']} answers online {'as' if agree else 'otherwise than'} in the batch")


if __name__ == "__main__":
    main()
