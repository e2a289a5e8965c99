"""Tables in one look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

STATE_STYLES = {
    "queued": "cyan",
    "scheduled": "dim",
    "waiting": "cyan",
    "running": "blue",
    "cancelling": "yellow",
    "succeeded": "green",
    "active": "green",
    "failed": "red",
    "cancelled": "yellow",
    "deleting": "red",
    "provisioning": "yellow",
}


def rows_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table of rows. A column whose name ends in `>` is aligned to the right."""
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        right = column.endswith(">")
        table.add_column(
            column.rstrip(">").upper(), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for row in rows:
        # Texts of tenants are shown as they are, never read as markup.
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return table


def facts_table(facts: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and values; empty values are left out."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=STATE_STYLES.get(state, ""))
