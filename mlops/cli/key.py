"""mlops key: API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mlops.cli.command import command, noun
from mlops.cli.options import Limit, PageSize, Reverse, Sort, Yes, confirm, sort_by
from mlops.cli.session import Session, take

if TYPE_CHECKING:
    from mlops.tenants.tenant import ApiKey

TenantOption = Annotated[str | None, typer.Option(help="Whose; the own tenant's where it is left out.")]


def add_to(app: typer.Typer) -> None:
    """Adds `mlops key`."""
    group = noun(app, "key", "API keys: an owner's of the own tenant, an administrator's of any.")

    @command(
        group,
        "create",
        examples=(
            "mlops key create ada",
            "mlops key create nightly-retraining --role submitter --expires 90d",
            "mlops key create ada --tenant team-a --role owner --output json",
        ),
    )
    def create(
        session: Session,
        name: Annotated[str, typer.Argument(help="Who or what it is for; owns the jobs it submits.")],
        role: Annotated[str, typer.Option(help="viewer, submitter, owner or administrator.")] = "submitter",
        tenant: TenantOption = None,
        expires: Annotated[str | None, typer.Option(help="In how long: 90d, 12h. (default: never)")] = None,
    ) -> None:
        """Create a key; its secret is shown this once."""
        from mlops.cli import humane
        from mlops.cli.table import facts_table

        with session.client() as client:
            issued = client.keys.create(name, role=role, tenant=tenant, expires=expires)
        key = issued.key
        facts = [
            ("Id", key.id),
            ("Tenant", key.tenant or ""),
            ("Name", key.name),
            ("Role", str(key.role)),
            ("Expires", humane.ago(key.expires_at) or "never"),
            ("Key", issued.secret),
        ]
        session.show(issued, facts_table(facts))
        if session.for_people:
            session.note("Keep the key: it is not shown again.")

    @command(group, "list", examples=("mlops key list", "mlops key list --tenant team-a --all --output json"))
    def list_keys(
        session: Session,
        tenant: TenantOption = None,
        all: Annotated[bool, typer.Option("--all", help="Also keys that are revoked or expired.")] = False,
        sort: Sort = None,
        reverse: Reverse = False,
        limit: Limit = 100,
        page_size: PageSize = 100,
    ) -> None:
        """List keys, newest first, or by --sort name, role, created_at, expires_at or last_used_at."""
        from mlops.cli import humane
        from mlops.cli.table import rows_table

        with session.client() as client:
            keys, more = take(client.keys.list(tenant=tenant, include_inactive=all, page_size=page_size), limit)
        fields = ("name", "role", "created_at", "expires_at", "last_used_at")
        keys = sort_by(keys, sort, fields=fields, reverse=reverse)
        rows = [
            (k.id, k.name, str(k.role), _standing(k), humane.ago(k.created_at), humane.ago(k.last_used_at) or "never")
            for k in keys
        ]
        session.show(keys, rows_table(("id", "name", "role", "valid", "created", "used"), rows))
        if more:
            session.note(f"There are more than {limit}: say --limit 0 for all.")

    @command(group, "revoke", examples=("mlops key revoke 0123456789ab --yes",))
    def revoke(
        session: Session, id: Annotated[str, typer.Argument(help="The key's public id.")], yes: Yes = False
    ) -> None:
        """Revoke a key: calls that use it fail within two seconds."""
        confirm(f"Revoke the key {id!r}?", yes=yes)
        with session.client() as client:
            client.keys.revoke(id)
        session.done(f"Revoked key {id}", revoked=id)


def _standing(key: ApiKey) -> str:
    from mlops.cli import humane

    if key.revoked_at:
        return f"revoked {humane.ago(key.revoked_at)}"
    return f"until {humane.ago(key.expires_at)}" if key.expires_at else "yes"
