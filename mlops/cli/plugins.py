"""Commands of other packages, found by the entry-point group "mlops.commands".

An entry is a callable `register(app: typer.Typer)`. What it imports may be heavy (a whole server), so that
an entry whose commands are known is only loaded for a command line that names one of them. Where the extra that
it needs is not installed, its commands stay in the help and say what to install.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

import typer

from mlops import errors

GROUP = "mlops.commands"

# Entry to its commands and what the help says of them. An entry that is not listed is always loaded.
COMMANDS: dict[str, dict[str, str]] = {
    "local": {
        "up": "Run the whole system on this machine, until Ctrl-C.",
        "demo": "Show the whole system at work in a temporary directory.",
    }
}


def add_plugins(
    app: typer.Typer, found: Iterable[EntryPoint] | None = None, *, arguments: Sequence[str] | None = None
) -> None:
    """Adds the commands of every entry.

    found: None means what is installed. arguments: the command line; None loads every entry.
    """
    for entry in entry_points(group=GROUP) if found is None else found:
        known = COMMANDS.get(entry.name)
        if known and arguments is not None and not known.keys() & set(arguments):
            for name, help in known.items():
                app.command(name, help=help)(_not_named)
            continue
        try:
            register = entry.load()
        except ImportError as exc:
            for name in known or (entry.name,):
                _add_stub(app, name, extra=entry.name, missing=exc.name or str(exc))
        else:
            register(app)


def _not_named() -> None:
    """Stands in the help for a command that this command line does not name."""


def _add_stub(app: typer.Typer, name: str, *, extra: str, missing: str) -> None:
    @app.command(
        name,
        help=f"Needs: pip install 'mlops[{extra}]'",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        add_help_option=True,
        epilog=f"\b\nExamples:\n  mlops {name}",
    )
    def stub() -> None:
        raise errors.FailedPrecondition(
            f"mlops {name} needs what is not installed here ({missing}): pip install 'mlops[{extra}]'"
        )
