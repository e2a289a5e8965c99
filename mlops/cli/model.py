"""mlops model: the registered models."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops.cli import alias, figures, traffic
from mlops.cli.command import command, noun
from mlops.cli.options import Limit, PageSize, Reverse, Sort, sort_by
from mlops.cli.session import Session, take

Name = Annotated[str, typer.Argument(help="The model.")]


def add_to(app: typer.Typer) -> None:
    """Adds `mlops model`."""
    group = noun(app, "model", "The registered models.")
    for part in (alias, traffic, figures):
        part.add_to(group)

    @command(group, "list", examples=("mlops model list", "mlops model list --name 'ch*' --output json"))
    def list_models(
        session: Session,
        name: Annotated[str, typer.Option("--name", "-n", help="Exact, or a prefix with a trailing *.")] = "",
        sort: Sort = None,
        reverse: Reverse = False,
        limit: Limit = 50,
        page_size: PageSize = 100,
    ) -> None:
        """List models by name, or by --sort name, latest_version, created_at or updated_at."""
        from mlops.cli import humane
        from mlops.cli.modelview import aliases_text
        from mlops.cli.table import rows_table

        with session.client() as client:
            models, more = take(client.models.list(name=name, page_size=page_size), limit)
        models = sort_by(models, sort, fields=("name", "latest_version", "created_at", "updated_at"), reverse=reverse)
        rows = [(m.name, str(m.latest_version), aliases_text(m), humane.ago(m.updated_at)) for m in models]
        session.show(models, rows_table(("name", "version>", "aliases", "updated"), rows))
        if more:
            session.note(f"There are more than {limit}: say --limit 0 for all.")

    @command(
        group,
        "get",
        examples=(
            "mlops model get churn",
            "mlops model get churn --version 1",
            "mlops model get churn --version champion --output json",
        ),
    )
    def get(
        session: Session,
        name: Name,
        version: Annotated[str | None, typer.Option("--version", "-v", help="A number or an alias.")] = None,
    ) -> None:
        """Show a model, or one version with its metrics and lineage."""
        from mlops.cli.modelview import model_facts, version_facts

        with session.client() as client:
            if version is None:
                model = client.models.get(name)
                session.show(model, model_facts(model))
                return
            found = client.models.version(name, int(version) if version.isdecimal() else version)
        session.show(found, version_facts(found))

    @command(group, "versions", examples=("mlops model versions churn", "mlops model versions churn --limit 5"))
    def versions(
        session: Session,
        name: Name,
        sort: Sort = None,
        reverse: Reverse = False,
        limit: Limit = 50,
        page_size: PageSize = 100,
    ) -> None:
        """List the versions of a model, newest first, or by --sort version, owner or created_at."""
        from mlops.cli import humane
        from mlops.cli.table import rows_table

        with session.client() as client:
            found, more = take(client.models.versions(name, page_size=page_size), limit)
        found = sort_by(found, sort, fields=("version", "owner", "created_at"), reverse=reverse)
        rows = [
            (str(v.version), ", ".join(v.aliases), v.estimator, v.job_id, v.owner, humane.ago(v.created_at))
            for v in found
        ]
        session.show(found, rows_table(("version>", "aliases", "estimator", "job", "owner", "created"), rows))
        if more:
            session.note(f"There are more than {limit}: say --limit 0 for all.")
