"""A pipeline with a column transformer, cross-validated so that no customer is on both sides of a fold.

Run it against `mlops up`, with MLOPS_ADDRESS and MLOPS_API_KEY exported.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import mlops
from mlops.jobs.dataset import ColumnKind, ReadOptions


def orders(customers: int = 120, orders_each: int = 6) -> pd.DataFrame:
    """Orders of customers, some with missing values; late and cheap ones are returned."""
    random = np.random.default_rng(7)
    rows = customers * orders_each
    days, price = random.integers(1, 20, rows).astype(float), random.gamma(2.0, 30.0, rows)
    note = random.choice(
        ["arrived late, box damaged", "as expected, thank you", "wrong size, please take it back"], rows
    )
    returned = (days > 14) | (note == "wrong size, please take it back") & (price < 80)
    days[random.random(rows) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "customer": np.repeat([f"c{number:03}" for number in range(customers)], orders_each),
            "days": days,
            "price": price,
            "channel": random.choice(["web", "shop", "phone"], rows),
            "note": note,
            "returned": returned ^ (random.random(rows) < 0.03),
        }
    )


def estimator() -> Pipeline:
    """An ordinary, unfitted scikit-learn pipeline: it is sent as a description and fitted on the workers."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    prepare = ColumnTransformer(
        [
            ("numbers", numbers, ["days", "price"]),
            ("channel", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["channel"]),
            ("note", TfidfVectorizer(), "note"),
        ],
        sparse_threshold=0.0,
    )
    return Pipeline([("prepare", prepare), ("classify", HistGradientBoostingClassifier(max_iter=60))])


def main() -> None:
    with mlops.Client() as client:
        # A column of few different texts would be read as categories: say that this one is prose.
        prose = ReadOptions(column_kinds={"note": ColumnKind.TEXT})
        dataset = client.datasets.upload(orders(), name="orders", read_options=prose)
        plan = client.validate(estimator(), dataset, target="returned", folds=4, group_column="customer").plan
        print(f"{plan.folds} folds, {plan.splitter} by {plan.group_column}, judged by {', '.join(plan.scoring)}")

        job = client.train(
            estimator(),
            dataset,
            target="returned",
            name="returns",
            folds=4,
            group_column="customer",
            scoring=["roc_auc", "f1"],
            memory="1GiB",
        )
        result = job.wait(timeout="5m")
        for metric in result.report.cross_validation:
            print(f"{metric.name:8} {metric.mean:.3f} ± {metric.deviation:.3f}")

        version = client.models.version("returns")
        print(f"{version.model_name} {version.version} was trained on {version.dataset_id} by {version.job_id}")


if __name__ == "__main__":
    main()
