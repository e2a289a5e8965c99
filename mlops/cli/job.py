"""mlops job: what runs, what ran, and how it went."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from mlops.cli.command import command, noun
from mlops.cli.follow import accepted, follow_to_end
from mlops.cli.options import Labels, Limit, PageSize, Reverse, Sort, Yes, confirm, parse_pairs, sort_by
from mlops.cli.session import Session, take

JobId = Annotated[str, typer.Argument(help="The job's id.")]
FilterName = Annotated[str, typer.Option("--name", "-n", help="Exact, or a prefix with a trailing *.")]
Owner = Annotated[str, typer.Option(help="Who submitted it.")]
Kinds = Annotated[
    list[str] | None,
    typer.Option("--kind", "-k", metavar="KIND", help="training or batch_inference; repeat it for more."),
]
Since = Annotated[str | None, typer.Option(help="Not older than this: 2h, 7d, 2026-03-01.")]


def add_to(app: typer.Typer) -> None:
    """Adds `mlops job`."""
    group = noun(app, "job", "What runs, what ran, and how it went.")

    @command(
        group,
        "list",
        examples=(
            "mlops job list",
            "mlops job list --state running --state queued",
            "mlops job list --kind batch_inference",
            "mlops job list --name 'churn*' --label stage=test --since 7d --output json",
        ),
    )
    def list_jobs(
        session: Session,
        state: Annotated[
            list[str] | None,
            typer.Option(
                "--state",
                "-s",
                metavar="STATE",
                help="queued, running, cancelling, succeeded, failed or cancelled; repeat it for more.",
            ),
        ] = None,
        kind: Kinds = None,
        name: FilterName = "",
        owner: Owner = "",
        label: Labels = None,
        since: Since = None,
        sort: Sort = None,
        reverse: Reverse = False,
        limit: Limit = 50,
        page_size: PageSize = 100,
    ) -> None:
        """List jobs, newest first, or by --sort name, state, owner, created_at or finished_at."""
        from mlops.cli import humane
        from mlops.cli.table import rows_table, state_text

        with session.client() as client:
            found = client.jobs.list(
                states=state or (),
                kinds=kind or (),
                name=name,
                owner=owner,
                labels=parse_pairs(label, field="label"),
                created_after=_time(since),
                page_size=page_size,
            )
            jobs, more = take(found, limit)
        jobs = sort_by(jobs, sort, fields=("name", "state", "owner", "created_at", "finished_at"), reverse=reverse)
        now = datetime.now(UTC)
        rows = [
            (
                job.id,
                str(job.kind),
                job.name,
                state_text(job.state),
                job.owner,
                humane.ago(job.created_at),
                humane.duration((job.finished_at or now) - job.created_at),
            )
            for job in jobs
        ]
        session.show(jobs, rows_table(("id", "kind", "name", "state", "owner", "created", "took>"), rows))
        if more:
            session.note(f"There are more than {limit}: say --limit 0 for all.")

    @command(group, "counts", examples=("mlops job counts", "mlops job counts --owner ada --since 7d"))
    def counts(
        session: Session, name: FilterName = "", owner: Owner = "", label: Labels = None, since: Since = None
    ) -> None:
        """Count jobs by state."""
        from mlops.cli.table import rows_table, state_text

        with session.client() as client:
            labels = parse_pairs(label, field="label")
            found = client.jobs.counts(name=name, owner=owner, labels=labels, created_after=_time(since))
        if session.for_people:
            rows = [(state_text(state), f"{count:,}") for state, count in found.items()]
            session.console.print(rows_table(("state", "jobs>"), rows))
        else:
            session.emit({str(state): count for state, count in found.items()})

    @command(group, "get", examples=("mlops job get train-1", "mlops job get train-1 --output json"))
    def get(session: Session, job_id: JobId) -> None:
        """Show a job with its plan, its steps, and its result or failure."""
        from mlops.cli.jobview import job_facts

        with session.client() as client:
            job = client.jobs.get(job_id)
        session.show(job, job_facts(job))

    @command(group, "watch", examples=("mlops job watch train-1", "mlops job watch train-1 --output json"))
    def watch(
        session: Session,
        job_id: JobId,
        cursor: Annotated[str, typer.Option(help="Go on behind this event: the cursor of a line of JSON.")] = "",
    ) -> None:
        """Follow a job to its end; Ctrl-C leaves it running. Exits with 1 if it fails or is cancelled."""
        with session.client() as client:
            follow_to_end(session, client.job(job_id), cursor=cursor)

    @command(group, "wait", examples=("mlops job wait train-1", "mlops job wait train-1 --timeout 10m"))
    def wait(
        session: Session,
        job_id: JobId,
        timeout: Annotated[str | None, typer.Option(help="How long to wait: 90s, 10m. (default: for ever)")] = None,
    ) -> None:
        """Wait for the end of a job and show it. Exits with 1 if it failed or was cancelled, 5 after the timeout."""
        from mlops.cli.jobview import job_facts

        with session.client() as client:
            handle = client.job(job_id)
            try:
                handle.wait(timeout)
            finally:
                if handle.status.is_final:
                    session.show(handle.job, job_facts(handle.job))

    @command(group, "metrics", examples=("mlops job metrics train-1", "mlops job metrics train-1 --output json"))
    def metrics(session: Session, job_id: JobId) -> None:
        """Show a job's numbers, as far as there are any."""
        from mlops.cli.jobview import metrics_table

        with session.client() as client:
            found = client.job(job_id).metrics()
        session.show(found, metrics_table(found))

    @command(
        group, "cancel", examples=("mlops job cancel train-2 --yes", "mlops job cancel train-2 --reason typo --yes")
    )
    def cancel(
        session: Session,
        job_id: JobId,
        reason: Annotated[str, typer.Option(help="Kept with the job's history.")] = "",
        yes: Yes = False,
    ) -> None:
        """Ask a job to stop; its cores are free within a second."""
        confirm(f"Cancel the job {job_id!r}?", yes=yes)
        with session.client() as client:
            job = client.jobs.cancel(job_id, reason)
        if session.for_people:
            session.done(f"Job {job_id} is {job.state}")
        else:
            from mlops.cli.session import plain

            session.emit(plain(job))

    @command(
        group,
        "download",
        examples=(
            "mlops job download batch-1 --to results",
            "mlops job download batch-1 --to rejected --part rejects --overwrite",
        ),
    )
    def download(
        session: Session,
        job_id: JobId,
        to: Annotated[Path, typer.Option(metavar="DIR", help="Where to put the files.")] = Path(),
        part: Annotated[str, typer.Option(help="predictions, or rejects.")] = "predictions",
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of the same names.")] = False,
    ) -> None:
        """Fetch the files of a batch inference that has succeeded; each appears once it is whole."""
        from mlops.cli.transfer import with_bar

        with session.client() as client:
            paths = with_bar(
                lambda progress: client.jobs.download(job_id, to, part, overwrite=overwrite, progress=progress),
                doing="Fetching",
            )
        if session.for_people:
            for path in paths:
                session.console.print(str(path), markup=False)
            if not paths:
                session.note(f"There are no {part}.")
        else:
            session.emit([str(path) for path in paths])

    @command(group, "retry", examples=("mlops job retry batch-2", "mlops job retry batch-2 --watch"))
    def retry(
        session: Session,
        job_id: JobId,
        watch: Annotated[bool, typer.Option("--watch", help="Follow the job to its end.")] = False,
    ) -> None:
        """Run a failed or cancelled job again, under its id: just what is missing is done."""
        with session.client() as client:
            handle = client.job(job_id)
            handle.retry()
            accepted(session, handle, watch=watch, again=True)

    @command(group, "delete", examples=("mlops job delete train-1 --yes",))
    def delete(session: Session, job_id: JobId, yes: Yes = False) -> None:
        """Delete an ended job and its files. Its run in MLflow and its model stay."""
        confirm(f"Delete the job {job_id!r} and its files?", yes=yes)
        with session.client() as client:
            client.jobs.delete(job_id)
        session.done(f"Deleted job {job_id}", deleted=job_id)


def _time(text: str | None) -> datetime | None:
    from mlops.client.quantities import parse_duration

    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:
        length = parse_duration(text, field="since")
        return datetime.now(UTC) - min(length, timedelta(days=36500))
