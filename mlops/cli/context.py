"""mlops context: the gateways that this user knows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops import errors
from mlops.cli.command import command, context_names, noun
from mlops.cli.options import Yes, confirm
from mlops.cli.session import Session

if TYPE_CHECKING:
    from mlops.client.contexts import Context

Name = Annotated[str, typer.Argument(help="The context.", autocompletion=context_names)]


def add_to(app: typer.Typer) -> None:
    """Adds `mlops context`."""
    group = noun(app, "context", "Gateways and keys, kept in a file that only you can read.")

    @command(
        group,
        "set",
        examples=(
            "mlops context set staging --address staging.example.com:7300",
            "mlops context set prod --address grpcs://mlops.example.com:443 --api-key mlops_0123456789ab_secret --use",
        ),
    )
    def set_context(
        session: Session,
        name: Name,
        ca_file: Annotated[Path | None, typer.Option(help="PEM of the authorities to trust.")] = None,
        use: Annotated[bool, typer.Option("--use", help="Make it the current one.")] = False,
    ) -> None:
        """Create a context, or change what is given of it. --api-key - asks for the key."""
        from mlops.client.contexts import Context, ContextFile
        from mlops.client.endpoint import parse_address

        file = ContextFile()
        before = next((known for known in file.list() if known.name == name), None)
        address = session.address or (before.address if before else None)
        if address is None:
            raise errors.InvalidRequest.of("address", "is required for a new context; say --address HOST:PORT")
        parse_address(address)
        key = typer.prompt("API key", hide_input=True) if session.api_key == "-" else session.api_key
        context = Context(
            name=name,
            address=address,
            # A key belongs to the address that it was stored for, and does not move to another one.
            api_key=key or (before.api_key if before and before.address == address else None),
            ca_file=str(ca_file.absolute()) if ca_file else (before.ca_file if before else None),
        )
        file.put(context, use=use)
        _show(session, context, current=file.current_name() == name)

    @command(group, "use", examples=("mlops context use staging",))
    def use(session: Session, name: Name) -> None:
        """Make a context the current one."""
        from mlops.client.contexts import ContextFile

        _show(session, ContextFile().use(name), current=True)

    @command(group, "list", examples=("mlops context list", "mlops context list --output json"))
    def list_contexts(session: Session) -> None:
        """List contexts. Keys are masked."""
        from mlops.cli.table import rows_table
        from mlops.client.contexts import ContextFile

        file = ContextFile()
        current = file.current_name()
        contexts = file.list()
        if not session.for_people:
            session.emit([_plain(context, current=context.name == current) for context in contexts])
            return
        rows = [("*" if c.name == current else "", c.name, c.address, c.masked_key) for c in contexts]
        session.console.print(rows_table(("", "name", "address", "key"), rows))

    @command(group, "current", examples=("mlops context current",))
    def current(session: Session) -> None:
        """Show the current context."""
        from mlops.client.contexts import ContextFile

        context = ContextFile().current()
        if context is None:
            raise errors.NotFound("no context is current; choose one with: mlops context use NAME")
        _show(session, context, current=True)

    @command(group, "delete", examples=("mlops context delete staging --yes",))
    def delete(session: Session, name: Name, yes: Yes = False) -> None:
        """Delete a context with its key."""
        from mlops.client.contexts import ContextFile

        confirm(f"Delete the context {name!r} with its key?", yes=yes)
        ContextFile().delete(name)
        session.done(f"Deleted context {name}", deleted=name)


def _show(session: Session, context: Context, *, current: bool) -> None:
    from mlops.cli.table import facts_table

    if not session.for_people:
        session.emit(_plain(context, current=current))
        return
    facts = [
        ("Context", context.name + (" (current)" if current else "")),
        ("Address", context.address),
        ("Key", context.masked_key),
        ("CA file", context.ca_file or ""),
    ]
    session.console.print(facts_table(facts))


def _plain(context: Context, *, current: bool) -> dict[str, Any]:
    return {
        "name": context.name,
        "address": context.address,
        "api_key": context.masked_key or None,
        "ca_file": context.ca_file,
        "current": current,
    }
