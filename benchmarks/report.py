"""How every benchmark ends: a table for people and, last, one line of JSON with its figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table


def report(
    title: str,
    *,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    figures: Mapping[str, float],
    notes: Sequence[str] = (),
) -> None:
    """Prints the table, then the notes, then the figures. Numbers are rounded for the table, not for the JSON."""
    console = Console()
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)
    for note in notes:
        console.print(f"[dim]{note}[/dim]", soft_wrap=True)
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}), flush=True)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value)
