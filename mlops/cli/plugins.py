"""Commands of other packages, found by the entry-point group "mlops.commands".

An entry is a callable `register(app: typer.Typer)` in a module that is quick to import: it is loaded for every
command line. An entry that cannot be imported stays in the help and says what to install.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

import typer

from mlops import errors

GROUP = "mlops.commands"


def add_plugins(app: typer.Typer, found: Iterable[EntryPoint] | None = None) -> None:
    """Adds the commands of every entry; None means what is installed."""
    for entry in entry_points(group=GROUP) if found is None else found:
        try:
            register = entry.load()
        except ImportError as exc:
            _add_stub(app, entry.name, missing=exc.name or str(exc))
        else:
            register(app)


def _add_stub(app: typer.Typer, name: str, *, missing: str) -> None:
    @app.command(
        name,
        help=f"Needs: pip install 'mlops[{name}]'",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        add_help_option=True,
        epilog=f"\b\nExamples:\n  mlops {name}",
    )
    def stub() -> None:
        raise errors.FailedPrecondition(
            f"mlops {name} needs what is not installed here ({missing}): pip install 'mlops[{name}]'"
        )
