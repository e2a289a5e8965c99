"""mlops predict batch: a dataset or a file in, a result of any size out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops import errors
from mlops.cli.command import command
from mlops.cli.options import (
    Alias,
    Delimiter,
    Encoding,
    Format,
    Header,
    Kinds,
    Labels,
    ModelName,
    Nulls,
    Outputs,
    Proba,
    Version,
    methods,
    parse_pairs,
    parse_read_options,
)
from mlops.cli.session import Session

if TYPE_CHECKING:
    from mlops.client.batch import BatchOptions


def add_to(group: typer.Typer) -> None:
    """Adds `mlops predict batch`."""

    @command(
        group,
        "batch",
        examples=(
            "mlops predict batch churn --dataset churn",
            "mlops predict batch churn@champion --uri s3://lake/customers.parquet --proba --carry customer --no-watch",
            "mlops predict batch churn --file churn.csv --target left --on-bad-row reject --max-rejects 100",
            "mlops predict batch churn --version 1 --dataset churn --dry-run --output yaml",
        ),
    )
    def batch(
        session: Session,
        model: ModelName,
        dataset: Annotated[
            str | None, typer.Option("--dataset", "-d", help="An id, or a name (the newest dataset of that name).")
        ] = None,
        uri: Annotated[str | None, typer.Option(help="Where the platform finds the file: s3://…, file://….")] = None,
        file: Annotated[Path | None, typer.Option(help="A file that is sent first.")] = None,
        version: Version = None,
        alias: Alias = None,
        outputs: Outputs = None,
        proba: Proba = False,
        carry: Annotated[
            list[str] | None,
            typer.Option("--carry", metavar="COLUMN", help="Keep this column beside the predictions; * for all."),
        ] = None,
        output_format: Annotated[
            str | None, typer.Option(help="parquet, arrow, csv or jsonl. (default: parquet)")
        ] = None,
        rows_per_shard: Annotated[int | None, typer.Option(min=1, help="(default: chosen)")] = None,
        on_bad_row: Annotated[
            str | None, typer.Option(help="fail, or reject: set the row apart with the reason. (default: fail)")
        ] = None,
        max_rejects: Annotated[int | None, typer.Option(min=0, help="More than this fail the job.")] = None,
        target: Annotated[
            str | None, typer.Option("--target", "-t", help="Score the predictions against this column.")
        ] = None,
        name: Annotated[str | None, typer.Option("--name", "-n", help="What the job is called in lists.")] = None,
        cpus: Annotated[int | None, typer.Option(help="Cores of each shard.")] = None,
        memory: Annotated[str | None, typer.Option(help="Memory of each shard: 2GiB.")] = None,
        time_limit: Annotated[str | None, typer.Option(help="How long each shard may run: 30m.")] = None,
        max_attempts: Annotated[int | None, typer.Option(help="How often a shard that crashed is tried.")] = None,
        label: Labels = None,
        format: Format = None,
        delimiter: Delimiter = None,
        encoding: Encoding = None,
        header: Header = None,
        null: Nulls = None,
        kind: Kinds = None,
        request_id: Annotated[
            str | None, typer.Option(help="The job's id: sending the command again is the same job.")
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show the plan, start nothing.")] = False,
        watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the job to its end.")] = True,
    ) -> None:
        """Predict a dataset or a file of any size, as a job. Follows it; exits with 1 if it fails."""
        given: dict[str, Any] = {
            "version": version,
            "alias": alias,
            "outputs": methods(outputs, proba=proba),
            "carry": carry,
            "output_format": output_format,
            "rows_per_shard": rows_per_shard,
            "on_bad_row": on_bad_row,
            "max_rejects": max_rejects,
            "target": target,
            "name": name,
            "cpus": cpus,
            "memory": memory,
            "time_limit": time_limit,
            "max_attempts": max_attempts,
            "labels": parse_pairs(label, field="label"),
            "read_options": parse_read_options(
                format=format, delimiter=delimiter, encoding=encoding, header=header, nulls=null, kinds=kind
            ),
        }
        options: BatchOptions = {key: value for key, value in given.items() if value is not None}  # type: ignore[assignment]  # the names are its keys
        sources = [source for source in (dataset, uri, file) if source is not None]
        if len(sources) != 1:
            raise errors.InvalidRequest("say one of --dataset NAME, --uri URI and --file PATH")
        if uri is not None and "://" not in uri:
            raise errors.InvalidRequest.of("uri", f"{uri!r} is no URI; a dataset is --dataset, a file here is --file")
        _run(session, model, sources[0], options, request_id, dry_run=dry_run, watch=watch)


def _run(
    session: Session,
    model: str,
    source: str | Path,
    options: BatchOptions,
    request_id: str | None,
    *,
    dry_run: bool,
    watch: bool,
) -> None:
    from mlops.cli.batchview import plan_facts
    from mlops.cli.follow import accepted
    from mlops.cli.transfer import with_bar
    from mlops.client.batch import batch_spec

    with session.client() as client:
        data: Any = source
        if isinstance(source, Path):
            read_options = options.pop("read_options", None)
            batch_spec(model, "to be sent", **options)
            data = with_bar(
                lambda progress: client.datasets.upload(source, read_options=read_options, progress=progress),
                doing="Sending",
                then="Reading",
            )
        spec = batch_spec(model, data, **options)
        if dry_run:
            validated = client.jobs.validate_batch(spec)
            session.show(validated, plan_facts(validated))
        else:
            accepted(session, client.submit_batch(spec, request_id), watch=watch)
