"""The command line as people use it, on the real stack."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.fixtures.shell import Shell
from tests.fixtures.stack import RunningStack


def customers(rows: int = 300) -> pd.DataFrame:
    """Numbers, categories, dates and flags, some missing, and a target that follows from them."""
    random = np.random.default_rng(3)
    age = random.integers(18, 80, rows).astype(float)
    plan = random.choice(["basic", "plus", "pro"], rows).astype(object)
    left = (age < 35) ^ (plan == "pro") ^ (random.random(rows) < 0.05)
    age[random.random(rows) < 0.1] = np.nan
    plan[random.random(rows) < 0.1] = None
    since = pd.Timestamp("2024-01-01") + pd.to_timedelta(random.integers(0, 700, rows), unit="D")
    return pd.DataFrame(
        {
            "age": age,
            "plan": plan,
            "since": since,
            "spend": random.normal(50, 10, rows).round(2),
            "paperless": random.random(rows) < 0.5,
            "left": np.where(left, "yes", "no"),
        }
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("home")
    frame = customers()
    frame.to_csv(directory / "churn.csv", index=False)
    frame.to_parquet(directory / "churn.parquet")
    return directory


@pytest.fixture(scope="module")
def admin(stack: RunningStack, home: Path) -> Shell:
    """An administrator's shell: address and key are exported."""
    variables = {**stack.environment, "MLOPS_API_KEY": stack.config.admin_key, "MLOPS_CONFIG": str(home / "admin.toml")}
    return Shell(directory=home, environment=variables)


@pytest.fixture(scope="module")
def team(stack: RunningStack, admin: Shell) -> Shell:
    """A data scientist's shell: a context holds address and key, and `churn` is there."""
    slug = f"team-{secrets.token_hex(4)}"
    made = admin.json("tenant", "create", slug, "--display-name", "Team", "--weight", "2", "--label", "floor=3")
    assert made["tenant"]["state"] == "active"
    assert made["tenant"]["quota"]["max_active_jobs"] == 1000
    key = made["key"]["secret"]
    config = str(admin.directory / f"{slug}.toml")
    shell = admin.with_variables(MLOPS_ADDRESS=None, MLOPS_API_KEY=None, MLOPS_CONFIG=config)
    shell.mlops("context", "set", "here", "--address", stack.address, "--api-key", key)
    shown = shell.mlops("context", "list")
    assert "here" in shown
    assert key not in shown
    shell.mlops("dataset", "upload", "churn.csv", "--label", "stage=test")
    return shell


def test_a_file_becomes_a_dataset_with_its_columns_understood(team: Shell) -> None:
    found = team.json("dataset", "get", "churn")
    kinds = {column["name"]: column["kind"] for column in found["profile"]["columns"]}
    assert kinds == {
        "age": "numeric",
        "plan": "categorical",
        "since": "datetime",
        "spend": "numeric",
        "paperless": "boolean",
        "left": "categorical",
    }
    missing = {column["name"]: column["null_count"] for column in found["profile"]["columns"]}
    frame = customers()
    assert missing == {name: int(count) for name, count in frame.isna().sum().items()}
    assert found["labels"] == {"stage": "test"}
    parquet = team.json("dataset", "upload", "churn.parquet", "--name", "churn-parquet")
    assert {column["name"]: column["kind"] for column in parquet["profile"]["columns"]} == kinds
    # The same bytes again are the same dataset.
    assert team.json("dataset", "upload", "churn.csv", "--label", "stage=test")["id"] == found["id"]
    assert {dataset["name"] for dataset in team.json("dataset", "list", "--name", "churn*")} == {
        "churn",
        "churn-parquet",
    }
    shown = team.mlops("dataset", "preview", "churn", "--rows", "3", "--column", "plan", "--column", "left")
    assert shown.split()[:2] == ["plan", "left"]
    assert len(shown.splitlines()) == 4
    table = team.mlops("dataset", "get", "churn")
    assert re.search(r"age +numeric +\d+ +\d+", table)


def test_a_dry_run_shows_the_plan_and_starts_nothing(team: Shell) -> None:
    before = team.json("job", "list", "--limit", "0")
    plan = team.json("train", "-d", "churn", "-t", "left", "--folds", "3", "--dry-run")
    assert plan["plan"]["splitter"] == "stratified"
    assert plan["plan"]["estimator"]["path"] == "sklearn.pipeline.Pipeline"
    assert plan["steps"] == ["fit", "fold-0", "fold-1", "fold-2", "evaluate"]
    shown = team.mlops("train", "-d", "churn", "-t", "left", "--dry-run")
    assert "HistGradientBoostingClassifier" in shown
    assert team.json("job", "list", "--limit", "0") == before


def test_a_training_is_followed_from_the_command_to_the_model(team: Shell) -> None:
    words = ["train", "--dataset", "churn", "--target", "left", "--name", "churn-forest", "--label", "run=first"]
    words += ["--estimator", "HistGradientBoostingClassifier", "--param", "max_iter=40", "--param", "learning_rate=0.2"]
    words += [
        "--feature",
        "age",
        "--feature",
        "spend",
        "--feature",
        "plan",
        "--param",
        "categorical_features=from_dtype",
    ]
    words += ["--folds", "3", "--holdout", "0.2", "--seed", "7", "--request-id", "first-training", "--watch"]
    said = team.run(*words)
    assert said.code == 0, said.err
    assert "first-training is accepted" in said.err
    for line in (r"first-training running", r"fold-2: succeeded", r"fit: succeeded", r"first-training succeeded"):
        assert re.search(line, said.out), line
    assert "churn-forest, version 1" in said.out
    # Sent again it is the same job: nothing is trained twice.
    again = team.run(*words)
    assert "churn-forest, version 1" in again.out
    assert [job["id"] for job in team.json("job", "list", "--label", "run=first")] == ["first-training"]

    job = team.json("job", "get", "first-training")
    assert job["state"] == "succeeded"
    assert job["result"]["model_uri"] == "models:/churn-forest/1"
    assert job["plan"]["estimator"]["params"]["max_iter"]["integer"] == 40
    metrics = team.json("job", "metrics", "first-training")
    assert metrics["holdout"]["accuracy"] > 0.75
    accuracy = next(one for one in metrics["cross_validation"] if one["name"] == "accuracy")
    assert accuracy["mean"] == pytest.approx(np.mean(accuracy["folds"]))
    assert accuracy["mean"] > 0.75
    assert "accuracy" in team.mlops("job", "metrics", "first-training")
    assert yaml.safe_load(team.mlops("job", "get", "first-training", "--output", "yaml")) == job

    lines = team.mlops("job", "watch", "first-training", "--output", "json").splitlines()
    events = [json.loads(line) for line in lines]
    states = [event["state"] for event in events if "state" in event]
    assert states == ["queued", "running", "succeeded"]
    assert events[-1]["job"]["id"] == "first-training"
    rest = team.mlops("job", "watch", "first-training", "--output", "json", "--cursor", events[4]["cursor"])
    assert len(rest.splitlines()) == len(events) - 5

    assert [model["name"] for model in team.json("model", "list")] == ["churn-forest"]
    assert team.json("model", "get", "churn-forest")["latest_version"] == 1
    assert [version["job_id"] for version in team.json("model", "versions", "churn-forest")] == ["first-training"]
    version = team.json("model", "get", "churn-forest", "--version", "1")
    assert [column["name"] for column in version["signature"]["inputs"]] == ["age", "spend", "plan"]
    assert version["dataset_sha256"] == team.json("dataset", "get", "churn")["sha256"]
    assert "churn-forest, version 1" in team.mlops("model", "get", "churn-forest", "--version", "1")


def test_a_job_is_cancelled_and_then_deleted(team: Shell, until: Callable[..., None]) -> None:
    words = ["train", "-d", "churn", "-t", "left", "--feature", "age", "--feature", "spend", "--feature", "paperless"]
    words += ["-e", "HistGradientBoostingClassifier", "-p", "max_iter=1000000", "--name", "never", "--no-watch"]
    job = team.json(*words)
    assert job["state"] in ("queued", "running")
    until(lambda: "iteration" in team.mlops("job", "get", job["id"]), 60)
    refused = team.run("job", "delete", job["id"], "--yes")
    assert refused.code == 6
    assert "has not ended" in refused.err
    assert team.json("job", "cancel", job["id"], "--reason", "too slow", "--yes")["state"] == "cancelling"
    waited = team.run("job", "wait", job["id"], "--timeout", "60s")
    assert waited.code == 1
    assert "was cancelled" in waited.err
    assert [one["id"] for one in team.json("job", "list", "--state", "cancelled")] == [job["id"]]
    assert team.run("model", "get", "never").code == 3
    team.mlops("job", "delete", job["id"], "--yes")
    assert team.run("job", "get", job["id"]).code == 3


def test_a_failed_job_says_what_to_try(team: Shell) -> None:
    said = team.run("train", "-d", "churn", "-t", "left", "-e", "LogisticRegression", "--feature", "age")
    assert said.code == 1
    assert "failed in step 'fit': ValueError: Input X contains NaN" in said.err
    assert "Try: " in said.err
    [job] = team.json("job", "list", "--state", "failed")
    shown = team.mlops("job", "get", job["id"])
    assert "Failed in" in shown
    assert "FIT_FAILED" in team.mlops("job", "get", job["id"], "--output", "json")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("job get nothing", 3, "job 'nothing' does not exist"),
        ("job watch nothing", 3, "job 'nothing' does not exist"),
        ("job cancel nothing --yes", 3, "job 'nothing' does not exist"),
        ("dataset get nothing", 3, "dataset 'nothing' does not exist"),
        ("dataset preview churn --column nope", 2, "nope"),
        ("model get nothing --version 3", 3, "does not exist"),
        ("train -d nothing -t left", 3, "dataset 'nothing' does not exist"),
        ("train -d churn -t lft", 2, "did you mean 'left'?"),
        ("train -d churn -t left -e RandomForst", 2, "did you mean 'RandomForest"),
        ("train -d churn -t left -e SVC -p C=-1.0", 2, "spec.estimator.params[C]"),
        ("train -d churn -t left --cpus 900", 2, "spec.resources.cpus"),
        ("train -d churn -t left --folds 1", 2, "folds"),
        ("train -d churn", 2, "--target"),
        ("job list --state busy", 2, "'busy' is none of queued, running"),
        ("job cancel first-training", 2, "say --yes"),
        ("dataset upload missing.csv", 2, "'missing.csv' does not exist"),
        ("dataset register /etc/passwd", 2, "is not below a place that may be read"),
        ("job list --api-key wrong", 4, "the API key is not valid"),
        ("tenant list", 4, "takes the role administrator"),
        ("job list --address 127.0.0.1:1 --call-timeout 1s", 5, "no gateway answers at 127.0.0.1:1"),
        ("nonsense", 2, "No such command"),
        ("job get", 2, "Missing argument"),
    ],
)
def test_what_goes_wrong_is_said_and_has_its_exit_code(team: Shell, words: str, code: int, message: str) -> None:
    said = team.run(*words.split())
    assert (said.code, said.out) == (code, ""), said.err
    assert message in said.err


def test_limits_of_a_tenant_have_their_exit_code(admin: Shell, stack: RunningStack) -> None:
    slug = f"small-{secrets.token_hex(4)}"
    made = admin.json("tenant", "create", slug, "--max-active-jobs", "0", "--max-dataset-size", "1MiB")
    small = admin.with_variables(MLOPS_API_KEY=made["key"]["secret"])
    small.mlops("dataset", "upload", "churn.csv")
    said = small.run("train", "-d", "churn", "-t", "left", "--no-watch")
    assert said.code == 7
    assert "0 jobs" in said.err
    assert admin.json("tenant", "update", slug, "--max-active-jobs", "5")["quota"]["max_active_jobs"] == 5
    reader = small.json("key", "create", "reader", "--role", "viewer")["secret"]
    assert small.with_variables(MLOPS_API_KEY=reader).run("dataset", "upload", "churn.parquet").code == 4
    assert admin.run("tenant", "create", slug, "--weight", "3").code == 6
    admin.mlops("tenant", "delete", slug, "--yes")
    assert admin.run("tenant", "get", slug).code == 3


def test_help_ends_in_examples(team: Shell) -> None:
    for words in ((), ("train",), ("job", "list"), ("dataset", "upload"), ("up",), ("demo",)):
        assert "Examples:" in team.mlops(*words, "--help")
