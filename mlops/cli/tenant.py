"""mlops tenant: the teams that share the machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.command import command, noun
from mlops.cli.options import Labels, Limit, PageSize, Reverse, Sort, Yes, confirm, parse_pairs, sort_by
from mlops.cli.session import Session, take

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.client.tenants import QuotaOptions
    from mlops.tenants.tenant import Tenant

Slug = Annotated[str, typer.Argument(help="The tenant: 2-63 of a-z, 0-9 and inner hyphens.")]
MaxJobs = Annotated[int | None, typer.Option(min=0, help="Jobs that have not ended.")]
MaxCpus = Annotated[int | None, typer.Option(min=1, help="Cores of one step of a job.")]
MaxMemory = Annotated[str | None, typer.Option(help="Memory of one step of a job: 64GiB.")]
MaxDataset = Annotated[str | None, typer.Option(help="Size of one dataset: 100GiB.")]
MaxConcurrent = Annotated[int | None, typer.Option(min=0, help="Online predictions at once, of each gateway.")]
MaxRate = Annotated[int | None, typer.Option(min=1, help="Online predictions a second, of each gateway.")]
Weight = Annotated[float | None, typer.Option(help="Its share of the cores against the other tenants'.")]
DisplayName = Annotated[str | None, typer.Option(help="What people call it.")]


def add_to(app: typer.Typer) -> None:
    """Adds `mlops tenant`."""
    group = noun(app, "tenant", "The teams that share the machines (administrators only).")

    @command(
        group,
        "create",
        examples=(
            "mlops tenant create team-b",
            "mlops tenant create team-c --display-name 'Team C' --weight 2 --max-job-memory 64GiB",
        ),
    )
    def create(
        session: Session,
        slug: Slug,
        display_name: DisplayName = None,
        weight: Weight = None,
        max_active_jobs: MaxJobs = None,
        max_job_cpus: MaxCpus = None,
        max_job_memory: MaxMemory = None,
        max_dataset_size: MaxDataset = None,
        max_concurrent_predictions: MaxConcurrent = None,
        max_predictions_per_second: MaxRate = None,
        label: Labels = None,
    ) -> None:
        """Create a tenant and its first key, which is shown this once."""
        with session.client() as client:
            made = client.tenants.create(
                slug,
                display_name=display_name or "",
                quota=_quota(
                    max_active_jobs=max_active_jobs,
                    max_job_cpus=max_job_cpus,
                    max_job_memory_bytes=max_job_memory,
                    max_dataset_bytes=max_dataset_size,
                    max_concurrent_predictions=max_concurrent_predictions,
                    max_predictions_per_second=max_predictions_per_second,
                ),
                weight=weight,
                labels=parse_pairs(label, field="label"),
            )
        session.show(made, tenant_facts(made.tenant, secret=made.key.secret if made.key else None))
        if session.for_people and made.key:
            session.note("Keep the key: it is not shown again. It has the role owner.")

    @command(group, "get", examples=("mlops tenant get team-a", "mlops tenant get team-a --output json"))
    def get(session: Session, slug: Slug) -> None:
        """Show a tenant."""
        with session.client() as client:
            tenant = client.tenants.get(slug)
        session.show(tenant, tenant_facts(tenant))

    @command(group, "list", examples=("mlops tenant list", "mlops tenant list --sort weight --reverse --output json"))
    def list_tenants(
        session: Session, sort: Sort = None, reverse: Reverse = False, limit: Limit = 100, page_size: PageSize = 100
    ) -> None:
        """List tenants, by slug or by --sort slug, weight, state or created_at."""
        from mlops.cli import humane
        from mlops.cli.table import rows_table, state_text

        with session.client() as client:
            tenants, more = take(client.tenants.list(page_size=page_size), limit)
        tenants = sort_by(tenants, sort, fields=("slug", "weight", "state", "created_at"), reverse=reverse)
        rows = [
            (t.slug, state_text(t.state), t.display_name, humane.number(t.weight), humane.ago(t.created_at))
            for t in tenants
        ]
        session.show(tenants, rows_table(("slug", "state", "name", "weight>", "created"), rows))
        if more:
            session.note(f"There are more than {limit}: say --limit 0 for all.")

    @command(
        group,
        "update",
        examples=(
            "mlops tenant update team-a --weight 3",
            "mlops tenant update team-a --max-active-jobs 50 --max-predictions-per-second 500",
        ),
    )
    def update(
        session: Session,
        slug: Slug,
        display_name: DisplayName = None,
        weight: Weight = None,
        max_active_jobs: MaxJobs = None,
        max_job_cpus: MaxCpus = None,
        max_job_memory: MaxMemory = None,
        max_dataset_size: MaxDataset = None,
        max_concurrent_predictions: MaxConcurrent = None,
        max_predictions_per_second: MaxRate = None,
    ) -> None:
        """Change what is given; the rest stays as it is."""
        with session.client() as client:
            tenant = client.tenants.update(
                slug,
                display_name=display_name,
                quota=_quota(
                    max_active_jobs=max_active_jobs,
                    max_job_cpus=max_job_cpus,
                    max_job_memory_bytes=max_job_memory,
                    max_dataset_bytes=max_dataset_size,
                    max_concurrent_predictions=max_concurrent_predictions,
                    max_predictions_per_second=max_predictions_per_second,
                ),
                weight=weight,
            )
        session.show(tenant, tenant_facts(tenant))

    @command(group, "delete", examples=("mlops tenant delete team-a --yes", "mlops tenant delete team-a --force --yes"))
    def delete(
        session: Session,
        slug: Slug,
        force: Annotated[bool, typer.Option("--force", help="Also with active jobs, which are ended.")] = False,
        yes: Yes = False,
    ) -> None:
        """Delete a tenant with all its jobs, datasets, models and keys."""
        confirm(f"Delete the tenant {slug!r} with all its jobs, datasets, models and keys?", yes=yes)
        with session.client() as client:
            client.tenants.delete(slug, force=force)
        session.done(f"Deleted tenant {slug}", deleted=slug)


def tenant_facts(tenant: Tenant, *, secret: str | None = None) -> Table:
    """A tenant for people."""
    from mlops.cli import humane
    from mlops.cli.table import facts_table, state_text

    quota = tenant.quota
    return facts_table(
        [
            ("Tenant", tenant.slug),
            ("Name", tenant.display_name),
            ("State", state_text(tenant.state)),
            ("Weight", humane.number(tenant.weight)),
            ("Active jobs", f"at most {humane.number(quota.max_active_jobs)}"),
            ("A step's cores", f"at most {quota.max_job_cpus}"),
            ("A step's memory", f"at most {humane.size(quota.max_job_memory_bytes)}"),
            ("A dataset", f"at most {humane.size(quota.max_dataset_bytes)}"),
            ("Predictions", f"at most {humane.number(quota.max_concurrent_predictions)} at once"),
            ("", f"at most {humane.number(quota.max_predictions_per_second)} a second"),
            ("Created", humane.ago(tenant.created_at)),
            ("Labels", humane.pairs(tenant.labels)),
            ("Key", secret or ""),
        ]
    )


def _quota(**limits: int | str | None) -> QuotaOptions:
    return {name: limit for name, limit in limits.items() if limit is not None}  # type: ignore[return-value]  # its keys
