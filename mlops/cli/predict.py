"""mlops predict: rows in, predictions out; at once, or as a batch job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from mlops import errors
from mlops.cli import batch
from mlops.cli.command import command, noun
from mlops.cli.options import Alias, Delimiter, ModelName, Outputs, Proba, Version, methods, parse_pairs
from mlops.cli.session import Session

if TYPE_CHECKING:
    from mlops.client import Client, Prediction

# The command that `mlops predict MODEL` is short for.
ONLINE = "online"


class PredictGroup(TyperGroup):
    """`mlops predict MODEL …` is `mlops predict online MODEL …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the command in where its name is left out."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [ONLINE, *args]
        return super().parse_args(ctx, args)


def add_to(app: typer.Typer) -> None:
    """Adds `mlops predict`."""
    group = noun(
        app,
        "predict",
        "Predict with a registered model: `mlops predict MODEL` at once, `mlops predict batch MODEL` as a job.",
        cls=PredictGroup,
        examples=("mlops predict churn --rows churn.csv", "mlops predict batch churn --dataset churn"),
    )

    @command(
        group,
        ONLINE,
        examples=(
            "mlops predict churn --value age=44",
            "mlops predict churn --rows churn.csv --proba",
            "mlops predict churn@champion --rows churn.csv --csv",
            "mlops predict online churn --version 1 --rows churn.csv --request-key customer-17 --output json",
        ),
    )
    def online(
        session: Session,
        model: ModelName,
        rows: Annotated[
            Path | None,
            typer.Option("--rows", "-r", metavar="FILE", help="A .csv, .json, .jsonl or .parquet file; - for stdin."),
        ] = None,
        value: Annotated[
            list[str] | None,
            typer.Option("--value", metavar="COLUMN=VALUE", help="One row, typed here; repeat it for each column."),
        ] = None,
        version: Version = None,
        alias: Alias = None,
        outputs: Outputs = None,
        proba: Proba = False,
        request_key: Annotated[str, typer.Option(help="Requests of one key are answered by one version.")] = "",
        format: Annotated[
            str | None, typer.Option("--format", help="csv, json, jsonl or parquet. (default: the suffix)")
        ] = None,
        delimiter: Delimiter = ",",
        as_csv: Annotated[bool, typer.Option("--csv", help="Print lines of CSV.")] = False,
    ) -> None:
        """Predict rows at once. Columns go by their names; nothing is stored. `mlops predict MODEL` for short."""
        if (rows is None) == (not value):
            raise errors.InvalidRequest("say either --rows FILE or --value COLUMN=VALUE")
        with session.client() as client:
            read = _rows(client, model, version, alias, rows=rows, value=value, format=format, delimiter=delimiter)
            prediction = client.models.predict(
                model,
                read,
                version=version,
                alias=alias,
                outputs=methods(outputs, proba=proba),
                request_key=request_key,
            )
        _show(session, prediction, as_csv=as_csv)

    batch.add_to(group)


def _rows(
    client: Client,
    model: str,
    version: int | None,
    alias: str | None,
    *,
    rows: Path | None,
    value: list[str] | None,
    format: str | None,
    delimiter: str | None,
) -> Any:
    from mlops.cli.rowsfile import FORMATS, read_rows, typed_columns

    if format is not None and format not in FORMATS:
        raise errors.InvalidRequest.of("format", f"{format!r} is none of {', '.join(FORMATS)}")
    if rows is None:
        pairs = parse_pairs(value, field="value")
        return typed_columns({name: [cell] for name, cell in pairs.items()}, _types(client, model, version, alias))
    separator = "\t" if delimiter in ("\\t", "tab") else delimiter or ","
    has_types = format in ("json", "jsonl", "parquet") or rows.suffix.lower() in (".json", ".jsonl", ".parquet")
    types = {} if has_types else _types(client, model, version, alias)
    return read_rows(rows, format=format, delimiter=separator, types=types)


def _types(client: Client, model: str, version: int | None, alias: str | None) -> dict[str, str]:
    """Column to type, as the model's signature says: "1" is a text where the model takes texts."""
    from mlops.client.reference import model_reference

    meant = model_reference(model, version, alias)
    which = meant.version or meant.alias
    if which is None:
        found = client.models.get(meant.name)
        which = found.aliases.get("champion", found.latest_version)
    return {column.name: column.type for column in client.models.version(meant.name, which).signature.inputs}


def _show(session: Session, prediction: Prediction, *, as_csv: bool) -> None:
    from mlops.cli import humane

    if as_csv:
        import csv
        import sys

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(prediction.columns)
        writer.writerows(zip(*prediction.columns.values(), strict=True))
        return
    if not session.for_people:
        from mlops.cli.session import plain

        data = plain(prediction.model_copy(update={"columns": {}}))
        del data["columns"]
        session.emit({**data, "predictions": [plain_row(row) for row in prediction.rows()]})
        return
    from rich.text import Text

    from mlops.cli.table import rows_table

    cells = [[humane.value(cell) for cell in row.values()] for row in prediction.rows()]
    table = rows_table([""] * len(prediction.columns), cells)
    for drawn, (name, values) in zip(table.columns, prediction.columns.items(), strict=True):
        # The names of classes keep their case, and are no markup.
        drawn.header = Text(name)
        drawn.justify = "right" if any(isinstance(value, float) for value in values) else "left"
    session.console.print(table)
    session.note(f"{prediction.model}, version {prediction.version} ({prediction.engine})")
    for warning in prediction.warnings:
        session.note(f"Warning: {warning}")


def plain_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON holds it: times as ISO 8601, NaN and infinity as texts."""
    from datetime import datetime
    from math import isfinite

    words = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    return {
        name: cell.isoformat()
        if isinstance(cell, datetime)
        else words[str(cell)]
        if isinstance(cell, float) and not isfinite(cell)
        else cell
        for name, cell in row.items()
    }
