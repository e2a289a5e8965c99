"""mlops version."""

from __future__ import annotations

import typer

from mlops import __version__
from mlops.cli.command import command
from mlops.cli.session import Session


def add_to(app: typer.Typer) -> None:
    """Adds `mlops version`."""

    @command(app, "version", examples=("mlops version", "mlops version --output json"))
    def version(session: Session) -> None:
        """Show the version of this program."""
        import platform

        session.done(f"mlops {__version__}", version=__version__, python=platform.python_version())
