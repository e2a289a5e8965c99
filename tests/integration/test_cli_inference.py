"""`mlops predict`, and what else there is of inference on the command line, against a fake platform."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from mlops import errors
from mlops.cli import exits
from mlops.cli.main import main
from mlops.cli.progress import JobView
from mlops.jobs.card import PredictMethod
from mlops.jobs.inference import OnBadRow, OutputFormat
from mlops.jobs.job import JobEvent, StepProgress, StepState
from mlops.jobs.serving import TrafficRule
from tests.fixtures import fake_values
from tests.fixtures.fake_platform import API_KEY, FakePlatform

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def surroundings(fake_platform: FakePlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("MLOPS_ADDRESS", fake_platform.address)
    monkeypatch.setenv("MLOPS_API_KEY", API_KEY)
    monkeypatch.delenv("MLOPS_CONTEXT", raising=False)
    Path("churn.csv").write_text("age,zip\n44,01\n,7\n")


def said(captured: Captured) -> list[str]:
    return [" ".join(line.split()) for line in captured.readouterr().out.splitlines()]


# --- at once -------------------------------------------------------------------------------------


def test_the_word_online_may_be_left_out(fake_platform: FakePlatform, capsys: Captured) -> None:
    for command in (
        ["predict", "churn", "--rows", "churn.csv"],
        ["predict", "online", "churn", "--rows", "churn.csv"],
        ["predict", "--rows", "churn.csv", "churn"],
    ):
        assert main(command) == 0
        shown = capsys.readouterr()
        assert shown.out.split() == ["prediction", "yes", "no"]
        assert "churn, version 1 (onnx)" in shown.err
    assert len(fake_platform.rows) == 3


def test_a_text_column_stays_text_and_empty_cells_are_missing(fake_platform: FakePlatform) -> None:
    assert main(["predict", "churn", "--rows", "churn.csv"]) == 0
    assert fake_platform.rows == [{"age": [44, None], "zip": ["01", "7"]}]
    assert fake_platform.calls["GetModelVersion"] == 1


def test_one_row_is_typed(fake_platform: FakePlatform) -> None:
    assert main(["predict", "churn@champion", "--value", "age=44", "--value", "zip=01", "--value", "paid=1"]) == 0
    assert fake_platform.rows == [{"age": [44], "zip": ["01"], "paid": [True]}]
    assert fake_platform.predicted[0].alias == "champion"


def test_json_is_taken_as_it_is_without_asking_for_the_signature(
    fake_platform: FakePlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("churn.json").write_text('[{"age": 44, "zip": "01"}, {"age": 30}]')
    assert main(["predict", "churn", "-r", "churn.json", "-v", "1", "--request-key", "k"]) == 0
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"age": 50}\n{"age": 20}\n')))
    assert main(["predict", "churn", "--rows", "-", "--format", "jsonl"]) == 0
    assert fake_platform.rows == [{"age": [44, 30], "zip": ["01", None]}, {"age": [50, 20]}]
    assert (fake_platform.predicted[0].version, fake_platform.predicted[0].request_key) == (1, "k")
    assert fake_platform.calls["GetModelVersion"] == 0


def test_the_answer_comes_as_json_yaml_csv_or_a_table(fake_platform: FakePlatform, capsys: Captured) -> None:
    command = ["predict", "churn", "--rows", "churn.csv", "--proba"]
    rows = [{"prediction": "yes", "probability[yes]": 0.44}, {"prediction": "no", "probability[yes]": 0.0}]
    assert main([*command, "-o", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"model": "churn", "version": 1, "engine": "onnx", "warnings": [], "predictions": rows}
    assert main([*command, "-o", "yaml"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == found
    assert main([*command, "--csv"]) == 0
    assert capsys.readouterr().out == "prediction,probability[yes]\nyes,0.44\nno,0.0\n"
    assert main(command) == 0
    assert said(capsys) == ["prediction probability[yes]", "yes 0.44", "no 0"]


def test_a_warning_of_the_platform_is_told_beside_the_result(capsys: Captured) -> None:
    assert main(["predict", "churn", "--value", "age=44", "--value", "extra=x"]) == 0
    assert "Warning: column 'extra' is ignored" in capsys.readouterr().err


def test_predictions_that_cannot_be_made_say_why(fake_platform: FakePlatform, capsys: Captured) -> None:
    for command, problem in (
        (["predict", "churn"], "--rows FILE or --value"),
        (["predict", "churn", "--rows", "churn.csv", "--value", "a=1"], "--rows FILE or --value"),
        (["predict", "churn", "--value", "age"], "not of the form key=value"),
        (["predict", "churn", "--rows", "none.csv"], "cannot be read"),
        (["predict", "churn", "--rows", "churn.csv", "--format", "xml"], "'xml' is none of"),
        (["predict", "churn", "--rows", "churn.csv", "--outputs", "proba"], "'proba' is none of"),
        (["predict", "churn/1", "--rows", "churn.csv", "--alias", "blue"], "more than once"),
        (["predict", "churn", "--value", "zip=1"], "age: is missing: the model needs it"),
    ):
        assert main(command) == exits.INVALID, command
        assert problem in capsys.readouterr().err
    assert main(["predict", "nothing", "--rows", "churn.csv"]) == exits.NOT_FOUND
    fake_platform.failures["Predict"] = [errors.QuotaExceeded("too many", limit="max_concurrent_predictions")]
    assert main(["predict", "churn", "--rows", "churn.csv"]) == exits.QUOTA


# --- as a job ------------------------------------------------------------------------------------


def test_a_batch_is_followed_to_its_result(fake_platform: FakePlatform, capsys: Captured) -> None:
    fake_platform.drops = [3]
    assert main(["predict", "batch", "churn", "--dataset", "churn"]) == 0
    shown = capsys.readouterr()
    lines = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert "accuracy 0.875" in lines
    assert "Model churn, version 1" in lines
    assert "Files 2 files, 1.2 KiB" in lines
    assert "Rejected 1 (1 file)" in lines
    assert "URI s3://bucket/team-a/jobs/batch-1/result" in lines
    assert "is accepted" in shown.err
    assert "mlops job download" in shown.err


def test_the_options_of_a_batch_reach_the_platform(fake_platform: FakePlatform) -> None:
    command = (
        "predict batch churn --uri s3://lake/x.csv --alias blue --proba --carry a --carry b --output-format csv "
        "--rows-per-shard 10 --on-bad-row reject --max-rejects 5 --target left --name nightly --cpus 2 --memory 1GiB "
        "--time-limit 5m --max-attempts 2 --label team=a --delimiter tab --request-id nightly-1 --no-watch"
    )
    assert main(command.split()) == 0
    [spec] = fake_platform.batches
    assert (spec.uri, spec.alias, spec.carry, spec.target, spec.name) == (
        "s3://lake/x.csv",
        "blue",
        ("a", "b"),
        "left",
        "nightly",
    )
    assert spec.outputs == (PredictMethod.PREDICT, PredictMethod.PREDICT_PROBA)
    assert (spec.output_format, spec.on_bad_row, spec.max_rejects) == (OutputFormat.CSV, OnBadRow.REJECT, 5)
    assert (spec.rows_per_shard, spec.resources.cpus, spec.resources.memory_bytes) == (10, 2, 2**30)
    assert (spec.time_limit.total_seconds(), spec.max_attempts, spec.labels) == (300, 2, {"team": "a"})
    assert spec.read_options.delimiter == "\t"
    assert "nightly-1" in fake_platform.jobs


def test_a_file_is_sent_first_and_not_before_everything_else_is_right(
    fake_platform: FakePlatform, capsys: Captured
) -> None:
    assert main(["predict", "batch", "churn", "--file", "churn.csv", "--null", "N/A", "--no-watch"]) == 0
    assert list(fake_platform.headers[0].read_options.null_values) == ["N/A"]
    assert fake_platform.batches[0].dataset in fake_platform.datasets
    assert main(["predict", "batch", "churn", "--file", "churn.csv", "--on-bad-row", "skip"]) == exits.INVALID
    assert "on_bad_row" in capsys.readouterr().err
    assert fake_platform.calls["UploadDataset"] == 1


def test_a_batch_needs_one_source(capsys: Captured) -> None:
    for options in ([], ["--dataset", "a", "--uri", "s3://b"], ["--file", "churn.csv", "--dataset", "a"]):
        assert main(["predict", "batch", "churn", *options]) == exits.INVALID
        assert "one of --dataset NAME, --uri URI and --file PATH" in capsys.readouterr().err
    assert main(["predict", "batch", "churn", "--uri", "churn.csv"]) == exits.INVALID
    assert "is no URI" in capsys.readouterr().err


def test_a_dry_run_shows_the_plan_and_starts_nothing(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["predict", "batch", "churn", "-d", "churn", "--dry-run"]) == 0
    lines = said(capsys)
    assert "Shards 2" in lines
    assert "A bad row fails the job" in lines
    assert "Warning: column 'x' is ignored" in lines
    assert main(["predict", "batch", "churn", "--uri", "s3://a/b", "--dry-run", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["shards"] is None
    assert not fake_platform.batches


def test_the_drift_of_a_batch_is_shown_worst_first_and_in_words(capsys: Captured) -> None:
    for command in (["job", "get", "batch-1"], ["job", "metrics", "batch-1"]):
        assert main(command) == 0
        lines = said(capsys)
        at = lines.index("FEATURE PSI DRIFT MISSING IN TRAINING NEVER SEEN")
        assert lines[at + 1 : at + 5] == [
            "age 0.310 large 12.5% 0.0% 50.0%",
            "spend 0.120 slight 0.0% 0.0% 0.0%",
            "steady 0.020 stable 0.0% 0.0% 0.0%",
            "plan not measured 0.0% 0.0% 0.0%",
        ]


def test_a_batch_that_runs_shows_rows_rate_and_time_left(capsys: Captured) -> None:
    assert main(["job", "get", "batch-2"]) == 0
    assert "predict running 50% 1 50 rows, 25 rows/s, 1m 30s left" in said(capsys)


def test_a_narrow_terminal_cuts_the_details_and_not_the_steps() -> None:
    view = JobView("batch-1")
    message = "1,200,000 of 5,000,000 rows, 54,000 rows/s, 70 s left"
    view.feed(
        JobEvent(
            cursor="1",
            time=fake_values.BORN,
            step=StepProgress(step="summarise", state=StepState.RUNNING, fraction=0.5, message=message),
        )
    )
    console = Console(width=70, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(view)
    line = captured.get().splitlines()[1]
    assert line.startswith("summarise  ")
    assert " running " in line
    assert "1,200,000" in line
    assert "70 s left" not in line


# --- results -------------------------------------------------------------------------------------


def test_a_result_is_downloaded(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["job", "download", "batch-1", "--to", "out"]) == 0
    assert said(capsys) == ["out/part-00000.parquet", "out/part-00001.parquet"]
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == fake_platform.files
    assert main(["job", "download", "batch-1", "--to", "out"]) == exits.CONFLICT
    assert "exists" in capsys.readouterr().err
    assert main(["job", "download", "batch-1", "--to", "out", "--overwrite", "--output", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == ["out/part-00000.parquet", "out/part-00001.parquet"]
    assert main(["job", "download", "batch-1", "--part", "rejects"]) == 0
    assert Path("rejects-00000.parquet").read_bytes() == b"r" * 10
    fake_platform.rejects = {}
    fake_platform.finish_batch("batch-1", fake_platform.files)
    capsys.readouterr()
    assert main(["job", "download", "batch-1", "--part", "rejects"]) == 0
    assert "There are no rejects." in capsys.readouterr().err
    assert main(["job", "download", "batch-2"]) == exits.CONFLICT
    assert main(["job", "download", "train-404"]) == exits.NOT_FOUND


def test_a_job_is_run_again(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["job", "retry", "batch-2"]) == 0
    assert "Job batch-2 runs again." in capsys.readouterr().out
    assert main(["job", "retry", "batch-2"]) == exits.CONFLICT
    fake_platform.jobs["batch-3"] = fake_values.batch_job("batch-3", fake_platform.jobs["train-2"].state)
    assert main(["job", "retry", "batch-3", "--watch"]) == 0
    assert "accuracy" in capsys.readouterr().out
    assert main(["job", "get", "batch-3"]) == 0
    assert "Attempt 2" in said(capsys)


# --- models --------------------------------------------------------------------------------------


def test_an_alias_is_set_and_deleted(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["model", "alias", "set", "churn", "blue", "1"]) == 0
    assert "Aliases blue=1, champion=1" in said(capsys)
    assert main(["model", "alias", "delete", "churn", "blue", "--yes"]) == 0
    assert "blue" not in fake_platform.model.aliases
    assert main(["model", "alias", "delete", "churn", "blue", "--yes"]) == exits.NOT_FOUND
    assert main(["model", "alias", "set", "churn", "blue", "0"]) == exits.INVALID


def test_a_traffic_rule_changes_only_where_it_is_told_to(fake_platform: FakePlatform, capsys: Captured) -> None:
    assert main(["model", "traffic", "set", "churn", "--challenger", "2", "--challenger-share", "0.1"]) == 0
    assert main(["model", "traffic", "set", "churn", "--shadow-share", "0.5"]) == 0
    assert fake_platform.rule == TrafficRule(challenger="2", challenger_share=0.1, shadow_share=0.5)
    capsys.readouterr()
    assert main(["model", "traffic", "get", "churn"]) == 0
    lines = said(capsys)
    assert "Its share 10.0%" in lines
    assert "Differing 5 rows (2.50%)" in lines
    assert main(["model", "traffic", "set", "churn", "--clear"]) == 0
    assert fake_platform.rule == TrafficRule()
    for options in ([], ["--clear", "--champion", "1"], ["--challenger-share", "1.5"]):
        assert main(["model", "traffic", "set", "churn", *options]) == exits.INVALID


def test_the_figures_of_a_model_are_a_line_a_version(capsys: Captured) -> None:
    assert main(["model", "figures", "churn"]) == 0
    assert "1 1,200 2,400 INVALID_ARGUMENT 3 1.2 2.5 9.0 4 (at most 32) onnx 1,200" in said(capsys)


def test_the_limits_of_predictions_are_set_and_shown(fake_platform: FakePlatform, capsys: Captured) -> None:
    command = ["tenant", "update", "team-a", "--max-concurrent-predictions", "7", "--max-predictions-per-second", "70"]
    assert main(command) == 0
    lines = said(capsys)
    assert "Predictions at most 7 at once" in lines
    assert fake_platform.tenants["team-a"].quota.max_predictions_per_second == 70
    assert fake_platform.tenants["team-a"].quota.max_active_jobs == 1000
