"""mlops dataset: the tables to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.command import command, noun
from mlops.cli.options import (
    Delimiter,
    Encoding,
    Format,
    Header,
    Kinds,
    Labels,
    Limit,
    Nulls,
    PageSize,
    Reverse,
    Sort,
    Yes,
    confirm,
    parse_pairs,
    parse_read_options,
    sort_by,
)
from mlops.cli.session import Session, take
from mlops.cli.transfer import with_bar

if TYPE_CHECKING:
    from rich.console import Group

    from mlops.jobs.dataset import Column, Dataset

Which = Annotated[str, typer.Argument(help="An id, or a name (the newest dataset of that name).")]


def add_to(app: typer.Typer) -> None:
    """Adds `mlops dataset`."""
    group = noun(app, "dataset", "The tables to learn from.")

    @command(
        group,
        "upload",
        examples=(
            "mlops dataset upload churn.csv",
            "mlops dataset upload churn.csv --name churn --label stage=test",
            "mlops dataset upload churn.csv --delimiter , --header --null N/A --kind age=numeric",
        ),
    )
    def upload(
        session: Session,
        path: Annotated[Path, typer.Argument(help="A CSV, Parquet, Arrow or JSON lines file.")],
        name: Annotated[str | None, typer.Option("--name", "-n", help="(default: the file's name)")] = None,
        label: Labels = None,
        format: Format = None,
        delimiter: Delimiter = None,
        encoding: Encoding = None,
        header: Header = None,
        null: Nulls = None,
        kind: Kinds = None,
    ) -> None:
        """Send a file. The same bytes read in the same way are the same dataset."""
        options = parse_read_options(
            format=format, delimiter=delimiter, encoding=encoding, header=header, nulls=null, kinds=kind
        )
        with session.client() as client:
            dataset = with_bar(
                lambda progress: client.datasets.upload(
                    path, name, read_options=options, labels=parse_pairs(label, field="label"), progress=progress
                ),
                doing="Sending",
                # Once everything is sent, the platform still has to read it.
                then="Reading",
            )
        session.show(dataset, dataset_facts(dataset))

    @command(
        group,
        "register",
        examples=(
            "mlops dataset register s3://lake/churn.parquet",
            "mlops dataset register s3://lake/churn.parquet --name churn --output json",
        ),
    )
    def register(
        session: Session,
        uri: Annotated[str, typer.Argument(help="Where the gateway finds it: s3://…, file://….")],
        name: Annotated[str | None, typer.Option("--name", "-n", help="(default: the URI's last part)")] = None,
        label: Labels = None,
        format: Format = None,
        delimiter: Delimiter = None,
        encoding: Encoding = None,
        header: Header = None,
        null: Nulls = None,
        kind: Kinds = None,
    ) -> None:
        """Take over a file from where the gateway may read; its bytes are copied."""
        options = parse_read_options(
            format=format, delimiter=delimiter, encoding=encoding, header=header, nulls=null, kinds=kind
        )
        with session.client() as client:
            labels = parse_pairs(label, field="label")
            dataset = client.datasets.register(uri, name, read_options=options, labels=labels)
        session.show(dataset, dataset_facts(dataset))

    @command(group, "get", examples=("mlops dataset get churn", "mlops dataset get churn --output yaml"))
    def get(session: Session, dataset: Which) -> None:
        """Show a dataset with its columns."""
        with session.client() as client:
            found = client.datasets.get(dataset)
        session.show(found, dataset_facts(found))

    @command(
        group, "list", examples=("mlops dataset list", "mlops dataset list --name 'ch*' --sort size_bytes --reverse")
    )
    def list_datasets(
        session: Session,
        name: Annotated[str, typer.Option("--name", "-n", help="Exact, or a prefix with a trailing *.")] = "",
        owner: Annotated[str, typer.Option(help="Who made it.")] = "",
        label: Labels = None,
        sort: Sort = None,
        reverse: Reverse = False,
        limit: Limit = 50,
        page_size: PageSize = 100,
    ) -> None:
        """List datasets, newest first, or by --sort name, size_bytes, owner or created_at."""
        from mlops.cli import humane
        from mlops.cli.table import rows_table

        with session.client() as client:
            labels = parse_pairs(label, field="label")
            datasets, more = take(
                client.datasets.list(name=name, owner=owner, labels=labels, page_size=page_size), limit
            )
        datasets = sort_by(datasets, sort, fields=("name", "size_bytes", "owner", "created_at"), reverse=reverse)
        rows = [
            (d.name, d.id, humane.number(d.profile.rows), humane.size(d.size_bytes), d.owner, humane.ago(d.created_at))
            for d in datasets
        ]
        session.show(datasets, rows_table(("name", "id", "rows>", "size>", "owner", "created"), rows))
        if more:
            session.note(f"There are more than {limit}: say --limit 0 for all.")

    @command(
        group, "preview", examples=("mlops dataset preview churn", "mlops dataset preview churn --rows 5 --column age")
    )
    def preview(
        session: Session,
        dataset: Which,
        rows: Annotated[int, typer.Option("--rows", "-r", min=1, max=1000, help="How many.")] = 20,
        column: Annotated[
            list[str] | None, typer.Option("--column", "-c", metavar="COLUMN", help="Only this; repeat it for more.")
        ] = None,
    ) -> None:
        """Show the first rows."""
        from rich.text import Text

        from mlops.cli.table import rows_table

        with session.client() as client:
            found = client.datasets.preview(dataset, rows, tuple(column or ()))
        shown = [[Text("null", style="dim") if cell is None else cell for cell in row] for row in found.rows]
        table = rows_table([""] * len(found.columns), shown)
        for drawn, title in zip(table.columns, found.columns, strict=True):
            drawn.header = Text(title)
        session.show(found, table)

    @command(group, "delete", examples=(f"mlops dataset delete ds-{'0' * 32} --yes",))
    def delete(
        session: Session, id: Annotated[str, typer.Argument(help="The dataset's id.")], yes: Yes = False
    ) -> None:
        """Delete a dataset by its id. Models trained on it keep its hash."""
        confirm(f"Delete the dataset {id!r}?", yes=yes)
        with session.client() as client:
            client.datasets.delete(id)
        session.done(f"Deleted dataset {id}", deleted=id)


def dataset_facts(dataset: Dataset) -> Group:
    """A dataset for people."""
    from rich.console import Group
    from rich.text import Text

    from mlops.cli import humane
    from mlops.cli.table import facts_table, rows_table

    facts = facts_table(
        [
            ("Dataset", dataset.name),
            ("Id", dataset.id),
            ("SHA-256", dataset.sha256),
            ("Size", f"{humane.size(dataset.size_bytes)} ({dataset.profile.format})"),
            ("Rows", humane.number(dataset.profile.rows)),
            ("Source", dataset.source_uri),
            ("Owner", dataset.owner),
            ("Created", humane.ago(dataset.created_at)),
            ("Labels", humane.pairs(dataset.labels)),
        ]
    )
    if not dataset.profile.columns:
        return Group(facts)
    rows = [
        (c.name, str(c.kind), humane.number(c.null_count), _distinct(c), _summary(c)) for c in dataset.profile.columns
    ]
    return Group(facts, Text(""), rows_table(("column", "kind", "missing>", "distinct>", "summary"), rows))


def _distinct(column: Column) -> str:
    from mlops.cli import humane

    return humane.number(column.distinct_count) + ("" if column.distinct_is_exact else "+")


def _summary(column: Column) -> str:
    from mlops.cli import humane

    if column.mean is not None:
        spread = f" ± {humane.number(column.standard_deviation)}" if column.standard_deviation is not None else ""
        middle = f"{humane.number(column.mean)}{spread}"
        return f"{humane.number(column.minimum)} … {humane.number(column.maximum)}, mean {middle}"
    if column.earliest and column.latest:
        return f"{column.earliest:%Y-%m-%d %H:%M} … {column.latest:%Y-%m-%d %H:%M}"
    top = [f"{entry.value} ({humane.number(entry.count)})" for entry in column.top_values[:4]]
    return ", ".join(top) + (" …" if len(column.top_values) > 4 else "")
