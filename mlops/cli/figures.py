"""mlops model figures: how predictions went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.command import command
from mlops.cli.session import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.jobs.serving import ServingFigures


def add_to(models: typer.Typer) -> None:
    """Adds `mlops model figures`."""

    @command(models, "figures", examples=("mlops model figures churn", "mlops model figures churn --output json"))
    def figures(session: Session, name: Annotated[str, typer.Argument(help="The model.")]) -> None:
        """Show requests, errors, latency and batch sizes by version, of the gateway that answers."""
        from mlops.cli import humane

        with session.client() as client:
            found = client.models.serving_figures(name)
        session.show(found, figures_table(found))
        if session.for_people and found.since is not None:
            session.note(f"Since the gateway started, {humane.ago(found.since)}.")


def figures_table(figures: ServingFigures) -> Table:
    """The figures for people, a line a version."""
    from mlops.cli import humane
    from mlops.cli.table import rows_table

    rows = [
        (
            str(found.version),
            f"{found.requests:,}",
            f"{found.rows:,}",
            ", ".join(f"{code} {count:,}" for code, count in sorted(found.errors.items())),
            f"{found.latency_p50_ms:.1f}",
            f"{found.latency_p90_ms:.1f}",
            f"{found.latency_p99_ms:.1f}",
            f"{humane.number(found.batch_rows_mean)} (at most {humane.number(found.batch_rows_max)})",
            ", ".join(f"{engine} {count:,}" for engine, count in sorted(found.engines.items())),
        )
        for found in figures.versions
    ]
    titles = ("version>", "requests>", "rows>", "errors", "p50 ms>", "p90 ms>", "p99 ms>", "rows a batch>", "engines")
    return rows_table(titles, rows)
