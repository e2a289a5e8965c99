"""The command line against a fake platform, over real gRPC."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from mlops import errors
from mlops.cli import exits
from mlops.cli.main import main
from mlops.jobs.job import Job
from tests.fixtures import fake_values
from tests.fixtures.fake_platform import API_KEY, FakePlatform
from tests.unit.test_cli import ALL, examples_of

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def surroundings(fake_platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MLOPS_ADDRESS", fake_platform.address)
    monkeypatch.setenv("MLOPS_API_KEY", API_KEY)
    monkeypatch.delenv("MLOPS_CONTEXT", raising=False)
    Path("churn.csv").write_text("age,left\n44,true\n")
    Path("training.yaml").write_text("dataset: churn\ntarget: left\nestimator: {path: SVC, params: {C: 2.0}}\n")
    config = 'current = "prod"\n'
    for name in ("prod", "staging"):
        config += f'[contexts.{name}]\naddress = "{fake_platform.address}"\napi_key = "{API_KEY}"\n'
    Path("config.toml").write_text(config)


@pytest.mark.parametrize("words", [words for words, _ in ALL], ids=" ".join)
def test_the_examples_of_every_command_run(
    words: tuple[str, ...], fake_platform: FakePlatform, capsys: Captured
) -> None:
    command = dict(ALL)[words]
    for example in examples_of(command):
        # Each starts with everything there.
        fake_platform.__init__()  # type: ignore[misc]  # a fresh state behind the same server
        code = main(shlex.split(example)[1:])
        shown = capsys.readouterr()
        assert code == 0, f"{example}: {shown.err}"
        assert shown.out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.Internal("incident 1"), exits.FAILED),
        (errors.ChecksumMismatch("x"), exits.FAILED),
        (errors.InvalidRequest.of("job_id", "is bad"), exits.INVALID),
        (errors.NotFound.of("job", "x"), exits.NOT_FOUND),
        (errors.PermissionDenied("no"), exits.DENIED),
        (errors.DeadlineExceeded("late"), exits.AWAY),
        (errors.FailedPrecondition("not now"), exits.CONFLICT),
        (errors.AlreadyExists("taken"), exits.CONFLICT),
        (errors.QuotaExceeded("full", limit="max_active_jobs"), exits.QUOTA),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_exits_with_its_code(
    error: errors.MlopsError, code: int, fake_platform: FakePlatform, capsys: Captured
) -> None:
    fake_platform.failures["GetJob"] = [error]
    assert main(["job", "get", "train-1"]) == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"Error: {error.message}\n"


def test_a_missing_key_and_a_missing_gateway_have_their_codes(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["job", "get", "train-1", "--api-key", "wrong"]) == exits.DENIED
    assert "mlops context set" in capsys.readouterr().err
    assert main(["job", "get", "train-1", "--address", "127.0.0.1:1", "--call-timeout", "1s"]) == exits.AWAY
    assert "no gateway answers at 127.0.0.1:1" in capsys.readouterr().err


def test_every_violation_is_listed(fake_platform: FakePlatform, capsys: Captured) -> None:
    violations = {"spec.target": "'x' is no column", "spec.resources.cpus": "at most 64, got 99"}
    fake_platform.failures["SubmitTraining"] = [errors.InvalidRequest("invalid training: …", violations=violations)]
    assert main(["train", "-d", "churn", "-t", "x", "--cpus", "99"]) == exits.INVALID
    shown = capsys.readouterr().err
    assert "  spec.target: 'x' is no column\n" in shown
    assert "  spec.resources.cpus: at most 64, got 99\n" in shown


def test_debug_shows_the_traceback(fake_platform: FakePlatform) -> None:
    fake_platform.failures["GetJob"] = [errors.Internal("incident 1")]
    with pytest.raises(errors.Internal):
        main(["job", "get", "train-1", "--debug"])


def test_json_is_the_domain_model(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["job", "get", "train-1", "--output", "json"]) == 0
    assert Job.model_validate_json(capsys.readouterr().out) == fake_platform.jobs["train-1"]
    assert main(["job", "get", "train-1", "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["state"] == "succeeded"
    assert main(["job", "list", "-o", "json"]) == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == ["train-1", "train-2", "batch-1", "batch-2"]
    assert main(["job", "list", "--kind", "training", "-o", "json"]) == 0
    assert [job["id"] for job in json.loads(capsys.readouterr().out)] == ["train-1", "train-2"]


def test_tables_are_not_cut_in_a_pipe_and_markup_is_text(fake_platform: FakePlatform, capsys: Captured) -> None:
    name = "[red]" + "n" * 180
    fake_platform.jobs["train-1"] = fake_platform.jobs["train-1"].model_copy(update={"name": name})
    assert main(["job", "list", "--sort", "name", "--limit", "1", "--page-size", "1"]) == 0
    shown = capsys.readouterr()
    assert name in shown.out
    assert "There are more than 1" in shown.err
    assert main(["job", "list", "--sort", "colour"]) == exits.INVALID


def test_a_training_is_followed_to_its_results(fake_platform: FakePlatform, capsys: Captured) -> None:
    fake_platform.drops = [3]
    command = ["train", "-d", "churn", "-t", "left", "-n", "churn", "-e", "SVC", "-p", "C=2.0", "-p", "kernel=linear"]
    assert main(command) == 0
    shown = capsys.readouterr()
    assert "running" in shown.out
    assert "fit: accuracy=0.92" in shown.out
    assert "churn, version 1" in shown.out
    assert "is accepted" in shown.err
    spec = fake_platform.submitted[0]
    assert spec.estimator is not None
    assert spec.estimator.path == "sklearn.svm.SVC"
    assert spec.estimator.params["C"].number == 2.0
    assert spec.estimator.params["kernel"].string == "linear"


def test_options_win_over_the_spec_file(fake_platform: FakePlatform) -> None:
    Path("t.yaml").write_text("dataset: churn\ntarget: left\nvalidation: {folds: 5, holdout_fraction: 0.1}\nseed: 7\n")
    assert main(["train", "--spec", "t.yaml", "--folds", "3", "--no-watch", "--target", "age"]) == 0
    spec = fake_platform.submitted[0]
    assert (spec.target, spec.validation.folds, spec.validation.holdout_fraction, spec.seed) == ("age", 3, 0.1, 7)


def test_training_options_that_do_not_fit_are_refused(capsys: Captured) -> None:
    assert main(["train", "-t", "left"]) == exits.INVALID
    assert "--dataset" in capsys.readouterr().err
    assert main(["train", "-d", "churn", "-t", "left", "-p", "C=1"]) == exits.INVALID
    assert "--estimator" in capsys.readouterr().err
    assert main(["train", "-d", "churn", "-t", "left", "--folds", "99"]) == exits.INVALID
    assert "folds" in capsys.readouterr().err


def test_a_job_that_fails_exits_with_one_and_says_what_to_try(fake_platform: FakePlatform, capsys: Captured) -> None:
    fake_platform.fail_job("train-9")
    for command in (["job", "watch", "train-9"], ["job", "wait", "train-9"]):
        assert main(command) == exits.FAILED
        shown = capsys.readouterr().err
        assert "ValueError: Input contains NaN. Try: impute them" in shown


def test_a_wait_that_times_out_exits_with_five(fake_platform: FakePlatform) -> None:
    fake_platform.endless.add("train-2")
    assert main(["job", "wait", "train-2", "--timeout", "200ms"]) == exits.AWAY


def test_a_watch_as_json_is_a_line_an_event(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["job", "watch", "train-1", "--output", "json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[0]["state"] == "queued"
    assert events[-1]["job"]["id"] == "train-1"
    assert len(events) == len(fake_values.events(fake_platform.jobs["train-1"]))
    assert main(["job", "watch", "train-1", "--output", "json", "--cursor", events[-2]["cursor"]]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_an_interrupted_watch_leaves_the_job_and_says_how_to_go_on(fake_platform: FakePlatform) -> None:
    fake_platform.endless.add("train-2")
    command = [sys.executable, "-m", "mlops.cli.main", "job", "watch", "train-2"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 30
    while "accuracy=0.92" not in process.stdout.readline():
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    _, shown = process.communicate(timeout=30)
    assert process.returncode == exits.INTERRUPTED, shown
    assert "mlops job watch train-2" in shown
    assert "Traceback" not in shown
    assert fake_platform.jobs["train-2"].state == "running"
