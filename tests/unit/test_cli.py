"""The command line without a gateway: help, examples, exit codes, contexts, texts."""

from __future__ import annotations

import json
import resource
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer

from mlops import errors
from mlops.cli import exits, humane
from mlops.cli.command import EXAMPLES
from mlops.cli.main import build_app, main
from mlops.cli.plugins import add_plugins
from mlops.cli.specfile import estimator_from, load_yaml, param_value, read_spec
from mlops.client.contexts import Context, ContextFile
from mlops.client.endpoint import DEFAULT_ADDRESS, parse_address, resolve
from mlops.client.quantities import parse_bytes, parse_duration
from mlops.errors import Code, error_classes
from mlops.jobs.estimator import EstimatorSpec, ParamValue

KEY = "mlops_0123456789ab_" + "a_b-" * 10 + "xyz"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("MLOPS_ADDRESS", "MLOPS_API_KEY", "MLOPS_CONTEXT", "MLOPS_CA_FILE"):
        monkeypatch.delenv(variable, raising=False)
    path = tmp_path / "config" / "config.toml"
    monkeypatch.setenv("MLOPS_CONFIG", str(path))
    return path


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with its words."""

    def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                yield from walk((*words, name), inner)
        else:
            yield words, command

    yield from walk((), typer.main.get_command(build_app()))


def examples_of(command: Any) -> list[str]:
    _, _, block = (command.epilog or "").partition(EXAMPLES)
    return [line.strip() for line in block.strip().splitlines()]


OURS = {"train", "predict", "job", "dataset", "model", "tenant", "key", "context", "version"}
ALL = [(words, command) for words, command in commands() if words[0] in OURS]


# --- help and examples -------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_every_command_ends_its_help_in_examples_that_parse(
    words: tuple[str, ...], command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = examples_of(command)
    assert examples
    for example in examples:
        program, *arguments = shlex.split(example)
        assert program == "mlops"
        if words == ("predict", "online") and arguments[1] != "online":
            arguments.insert(1, "online")  # whose name may be left out
        assert tuple(arguments[: len(words)]) == words, "an example is of its own command"
        command.make_context(" ".join(words), arguments[len(words) :])
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.rstrip().endswith(examples[-1])
    assert "--output" in shown


def test_the_help_lists_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for code, meaning in exits.MEANINGS.items():
        assert f"  {code:<4} {meaning}" in shown


def test_the_documentation_lists_every_exit_code() -> None:
    text = (Path(__file__).parents[2] / "docs" / "how-to" / "cli.md").read_text(encoding="utf-8")
    for code, meaning in exits.MEANINGS.items():
        assert f"| {code} | {meaning} |" in text


def test_help_starts_quickly_and_loads_no_grpc() -> None:
    code = "import sys; from mlops.cli.main import main; main(['--help']); print('grpc' in sys.modules, 'rich' in sys.modules)"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ran.stdout.splitlines()[-1] == "False False"
    # Processor time, which a busy machine stretches less than the clock's; 0.3 s where it was measured.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.2


def test_a_mistyped_command_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["job", "lst"]) == exits.INVALID
    assert "Did you mean 'list'" in capsys.readouterr().err


# --- exit codes --------------------------------------------------------------------------------


def test_every_error_has_an_exit_code_of_the_table() -> None:
    assert {Code(code) for code in Code} == set(exits._BY_CODE)
    for kind in error_classes().values():
        assert exits.exit_code(kind("x")) in exits.MEANINGS
    assert exits.exit_code(errors.ChildCrashed("x")) == exits.FAILED
    assert exits.exit_code(errors.RequestIdReused("x")) == exits.CONFLICT


def test_a_destructive_command_without_a_terminal_wants_yes(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (
        ["job", "delete", "x"],
        ["tenant", "delete", "x"],
        ["dataset", "delete", "x"],
        ["key", "revoke", "x"],
        ["model", "alias", "delete", "x", "champion"],
    ):
        assert main(command) == exits.INVALID
        assert "--yes" in capsys.readouterr().err


def test_a_defect_is_reported_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: list[str]) -> typer.Typer:
        app = build_app()

        @app.command("boom")
        def boom(debug: bool = False) -> None:
            raise ValueError("x")

        return app

    monkeypatch.setattr("mlops.cli.main.build_app", broken)
    assert main(["boom"]) == exits.FAILED
    shown = capsys.readouterr().err
    assert "defect" in shown
    assert "Traceback" not in shown
    with pytest.raises(ValueError, match="x"):
        main(["boom", "--debug"])


# --- contexts ----------------------------------------------------------------------------------


def test_a_context_is_kept_for_its_owner_alone_and_its_key_is_masked(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["context", "set", "prod", "--address", "grpcs://h:443", "--api-key", KEY]) == 0
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert main(["context", "set", "dev", "--address", "localhost"]) == 0
    capsys.readouterr()
    assert main(["context", "list", "--output", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [(entry["name"], entry["current"]) for entry in shown] == [("dev", False), ("prod", True)]
    assert shown[1]["api_key"] == "mlops_0123456789ab_****"
    assert main(["context", "use", "dev"]) == 0
    assert main(["context", "current"]) == 0
    assert "dev (current)" in capsys.readouterr().out
    assert main(["context", "delete", "dev", "--yes"]) == 0
    assert main(["context", "current"]) == exits.NOT_FOUND
    assert main(["context", "use", "nowhere"]) == exits.NOT_FOUND
    assert "there are: prod" in capsys.readouterr().err


def test_comments_of_the_config_file_survive_a_change(config: Path) -> None:
    config.parent.mkdir()
    config.write_text('# mine\ncurrent = "a"\n[contexts.a]\naddress = "h:1" # the old one\n')
    ContextFile().put(Context(name="b", address="h:2"))
    text = config.read_text()
    assert "# mine" in text
    assert "# the old one" in text
    assert [context.name for context in ContextFile().list()] == ["a", "b"]


def test_a_broken_config_file_is_named_and_left_alone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.parent.mkdir()
    config.write_text("[contexts\n")
    assert main(["context", "set", "a", "--address", "h:1"]) == exits.INVALID
    assert str(config) in capsys.readouterr().err
    assert config.read_text() == "[contexts\n"


def test_arguments_win_over_the_environment_and_the_environment_over_the_file() -> None:
    assert resolve(environ={"MLOPS_CONFIG": "/no/such"}).target == DEFAULT_ADDRESS
    ContextFile().put(Context(name="a", address="file:1", api_key="key-a"))
    ContextFile().put(Context(name="b", address="other:2", api_key="key-b"))
    path = str(ContextFile().path)

    def found(*arguments: Any, context: str | None = None, **environ: str) -> tuple[str, str | None]:
        endpoint = resolve(*arguments, context=context, environ={"MLOPS_CONFIG": path, **environ})
        return endpoint.target, endpoint.api_key

    assert found() == ("file:1", "key-a")
    assert found(MLOPS_CONTEXT="b") == ("other:2", "key-b")
    assert found(context="b", MLOPS_ADDRESS="env:3", MLOPS_API_KEY="key-e") == ("other:2", "key-b")
    assert found(MLOPS_API_KEY="key-e") == ("file:1", "key-e")
    assert found("arg:4", "key-x", MLOPS_ADDRESS="env:3", MLOPS_API_KEY="key-e") == ("arg:4", "key-x")
    with pytest.raises(errors.NotFound, match="there are: a, b"):
        found(context="c")


def test_a_stored_key_is_never_sent_to_another_address() -> None:
    ContextFile().put(Context(name="a", address="file:1", api_key="key-a"))
    assert resolve("elsewhere:1").api_key is None
    assert main(["context", "set", "a", "--address", "elsewhere:1"]) == 0
    assert ContextFile().get("a").api_key is None


def test_addresses_are_read_and_refused() -> None:
    assert parse_address("host") == ("host:7300", False)
    assert parse_address("grpcs://host:443/") == ("host:443", True)
    assert parse_address("[::1]") == ("[::1]:7300", False)
    assert parse_address("[::1]:1") == ("[::1]:1", False)
    for bad in ("", "ftp://x", "host:port", "host:0", "host:70000", "a b", "http://x/y", ":1"):
        with pytest.raises(errors.InvalidRequest, match="address"):
            parse_address(bad)


# --- plugins -----------------------------------------------------------------------------------


def test_a_plugin_adds_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    app = build_app()
    add_plugins(app, [EntryPoint("extra", f"{__name__}:register_hello", "mlops.commands")])
    assert typer.main.get_command(app).main(["hello"], standalone_mode=False) is None
    assert capsys.readouterr().out == "hello\n"


def test_the_commands_of_the_embedded_stack_are_quick_to_load() -> None:
    code = "import sys; import mlops.local.commands; print(*sorted({'temporalio', 'mlflow', 'sklearn', 'grpc', 'rich'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout.strip() == ""


def test_a_plugin_that_is_not_installed_says_what_to_install() -> None:
    app = typer.Typer()
    app.callback()(lambda: None)
    add_plugins(app, [EntryPoint("local", "no_such_package.commands:register", "mlops.commands")])
    command = typer.main.get_command(app)
    with pytest.raises(errors.FailedPrecondition, match=r"pip install 'mlops\[local\]'"):
        command.main(["local", "--dir", "x"], standalone_mode=False)


def register_hello(app: typer.Typer) -> None:
    app.command("hello")(lambda: print("hello"))  # noqa: T201 - what the command does


# --- specs -------------------------------------------------------------------------------------


def test_parameters_keep_their_types() -> None:
    texts = ["a=1", "b=1.0", "c=1e-3", "d=true", "e=no", "f=null", "g=2026-01-01", "h=[1, x]", "i=!tuple [10, 5]"]
    spec = estimator_from("RandomForestClassifier", texts)
    assert spec.path == "sklearn.ensemble.RandomForestClassifier"
    kinds = {name: value.kind for name, value in spec.params.items()}
    assert kinds == {
        "a": "integer",
        "b": "number",
        "c": "number",
        "d": "boolean",
        "e": "string",
        "f": "none",
        "g": "string",
        "h": "list",
        "i": "tuple",
    }
    assert spec.params["c"].number == 0.001


def test_an_unknown_short_name_gets_a_suggestion() -> None:
    with pytest.raises(errors.InvalidRequest, match="did you mean 'RandomForestClassifier'"):
        estimator_from("RandomForestClasifier", None)


def test_nested_values_functions_and_printed_values_are_understood() -> None:
    text = """
    steps:
      - [scale, {path: StandardScaler}]
      - [pick, {path: sklearn.feature_selection.SelectKBest, params: {score_func: !function sklearn.x.f, k: {integer: 5}}}]
    weights: {0: 1.0, 1: 2.5}
    """
    value = param_value(load_yaml(text, field="x"), field="x")
    assert value.mapping is not None
    steps = value.mapping.entries[0].value.list
    assert steps is not None
    assert steps.items[0].list is not None
    assert steps.items[0].list.items[1].object == EstimatorSpec(path="sklearn.preprocessing.StandardScaler")
    assert steps.items[1].list is not None
    picked = steps.items[1].list.items[1].object
    assert picked is not None
    assert picked.params == {"score_func": ParamValue(function="sklearn.x.f"), "k": ParamValue(integer=5)}
    weights = value.mapping.entries[1].value.mapping
    assert weights is not None
    assert weights.entries[0].key == ParamValue(integer=0)


def test_a_spec_file_is_read_with_readable_quantities(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "dataset: churn\ntarget: left\nestimator: SVC\nvalidation: {folds: 5}\n"
        "resources: {cpus: 2, memory_bytes: 4GiB}\ntime_limit: 30m\nscoring: [accuracy]\n"
    )
    spec = read_spec(path)
    assert spec.estimator == EstimatorSpec(path="sklearn.svm.SVC")
    assert spec.resources.memory_bytes == 4 * 2**30
    assert spec.time_limit == timedelta(minutes=30)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is no YAML"),
        ("just text", "no mapping"),
        ("dataset: x\ntarget: y\nfold: 3", "fold: Extra inputs"),
        ("dataset: x\ntarget: y\nestimator: {params: {}}", "must hold `path`"),
        ("dataset: x\ntarget: y\nestimator: !tuple 3", "!tuple needs a list"),
        ("target: y", "dataset: Field required"),
        ("x: " + "[" * 5000, "no YAML"),
        (
            "dataset: x\ntarget: y\nestimator: {path: SVC, params: {a: {b: " + "[" * 400 + "]" * 400 + "}}}",
            "nested|no YAML",
        ),
    ],
)
def test_a_bad_spec_file_is_refused_by_name(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(text)
    with pytest.raises(errors.InvalidRequest, match=problem):
        read_spec(path)
    with pytest.raises(errors.InvalidRequest, match="cannot be read"):
        read_spec(tmp_path / "none.yaml")


# --- quantities --------------------------------------------------------------------------------


def test_sizes_and_durations_are_read() -> None:
    assert parse_bytes("2GiB", field="f") == 2**31
    assert parse_bytes("1.5 MB", field="f") == 1_500_000
    assert parse_bytes("4Gi", field="f") == 2**32
    assert parse_bytes(7, field="f") == 7
    assert parse_duration("1h30m", field="f") == timedelta(minutes=90)
    assert parse_duration("90", field="f") == timedelta(seconds=90)
    assert parse_duration(0.5, field="f") == timedelta(seconds=0.5)
    for bad in ("", "2 bananas", "GiB", "-1"):
        with pytest.raises(errors.InvalidRequest, match="f: "):
            parse_bytes(bad, field="f")
        with pytest.raises(errors.InvalidRequest, match="f: "):
            parse_duration(bad, field="f")
    for bad_duration in (float("nan"), float("inf"), "9" * 30 + "d"):
        with pytest.raises(errors.InvalidRequest):
            parse_duration(bad_duration, field="f")


def test_the_progress_of_a_batch_is_put_in_words_once() -> None:
    values = {"rows": 1200.0, "rows_per_second": 54_000.4, "seconds_left": 3700.0}
    assert humane.progress("", values) == "1,200 rows, 54,000 rows/s, 1h 1m left"
    assert humane.progress("1,200 of 5,000 rows, 3 rejected", values) == "1,200 of 5,000 rows, 3 rejected"
    assert humane.progress("tree 3 of 9", {"loss": 0.25}) == "tree 3 of 9  loss=0.25"


def test_people_read_sizes_times_and_numbers() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert humane.size(1610612736) == "1.5 GiB"
    assert humane.size(12) == "12 B"
    assert humane.duration(3900) == "1h 5m"
    assert humane.duration(3.21) == "3.2s"
    assert humane.duration(59.99) == "60s"
    assert humane.duration(86400) == "1d"
    assert humane.ago(now - timedelta(minutes=3), now=now) == "3m ago"
    assert humane.ago(now + timedelta(days=2), now=now) == "in 2d"
    assert humane.ago(None) == ""
    assert humane.number(0.123456) == "0.1235"
    assert humane.number(12345.0) == "12,345"
    assert humane.number(float("nan")) == "nan"
