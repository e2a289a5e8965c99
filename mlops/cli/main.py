"""The entry point of `mlops`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from mlops.cli import context, dataset, exits, job, key, model, plugins, predict, tenant, train, version
from mlops.errors import InvalidRequest, MlopsError, Unauthenticated

_EPILOG = "\n\n".join(
    [
        (
            "\b\nEnvironment:\n"
            "  MLOPS_ADDRESS, MLOPS_API_KEY, MLOPS_CONTEXT, MLOPS_CA_FILE   over the config file, below the options\n"
            "  MLOPS_CONFIG                                                 another config file"
        ),
        "\b\nExit codes:\n" + "\n".join(f"  {code:<4} {meaning}" for code, meaning in exits.MEANINGS.items()),
        (
            "\b\nExamples:\n"
            "  mlops context set local --address 127.0.0.1:7300 --api-key -\n"
            "  mlops dataset upload churn.csv --name churn\n"
            "  mlops train --dataset churn --target left --name churn\n"
            "  mlops predict churn --rows churn.csv\n"
            "  mlops job list --state running"
        ),
    ]
)


def build_app(arguments: Sequence[str] | None = None) -> typer.Typer:
    """The whole command line; other packages' commands as far as `arguments` name them (None: all)."""
    app = typer.Typer(
        name="mlops",
        help="Train scikit-learn models on shared machines, and predict with them.",
        epilog=_EPILOG,
        no_args_is_help=True,
        # Plain text: examples are shown as they are typed.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    train.add_to(app)
    predict.add_to(app)
    for noun in (job, dataset, model, tenant, key, context):
        noun.add_to(app)
    version.add_to(app)
    plugins.add_plugins(app)
    return app


def _root() -> None:
    """Train scikit-learn models on shared machines, and predict with them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line (sys.argv where it is left out) and returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        typer.main.get_command(build_app(given)).main(args=given, prog_name="mlops")
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else exits.OK if exc.code is None else exits.FAILED
    except MlopsError as exc:
        if "--debug" in given:
            raise
        report(exc)
        return exits.exit_code(exc)
    except Exception as exc:
        if "--debug" in given:
            raise
        _say(f"Error: {type(exc).__name__}: {exc}")
        _say("This is a defect of mlops itself. Run the command again with --debug and report what it prints.")
        return exits.FAILED
    return exits.OK


def report(error: MlopsError) -> None:
    """Says what went wrong, with which value, and what to do."""
    violations = error.violations if isinstance(error, InvalidRequest) else {}
    if any(problem not in error.message for problem in violations.values()) or len(violations) > 1:
        _say(f"Error: {error.message.split(':', 1)[0]}")
        for field, problem in violations.items():
            _say(f"  {field}: {problem}")
    else:
        _say(f"Error: {error.message}")
    if isinstance(error, Unauthenticated):
        _say("Give a key with MLOPS_API_KEY, --api-key, or: mlops context set NAME --address HOST:PORT --api-key -")


def _say(text: str) -> None:
    # Messages may quote what a tenant sent: no control character of it reaches the terminal.
    sys.stderr.write("".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text) + "\n")


if __name__ == "__main__":
    sys.exit(main())
