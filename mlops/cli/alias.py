"""mlops model alias: names for versions."""

from __future__ import annotations

from typing import Annotated

import typer

from mlops.cli.command import command, noun
from mlops.cli.options import Yes, confirm
from mlops.cli.session import Session

Name = Annotated[str, typer.Argument(help="The model.")]
Alias = Annotated[str, typer.Argument(help="The alias: champion, say.")]


def add_to(models: typer.Typer) -> None:
    """Adds `mlops model alias`."""
    group = noun(models, "alias", "Names for versions; predictions by a name follow it within two seconds.")

    @command(group, "set", examples=("mlops model alias set churn champion 1",))
    def set_alias(
        session: Session,
        name: Name,
        alias: Alias,
        version: Annotated[int, typer.Argument(min=1, help="The version's number.")],
    ) -> None:
        """Point an alias to a version, or move it there."""
        from mlops.cli.modelview import model_facts

        with session.client() as client:
            model = client.models.set_alias(name, alias, version)
        session.show(model, model_facts(model))

    @command(group, "delete", examples=("mlops model alias delete churn champion --yes",))
    def delete(session: Session, name: Name, alias: Alias, yes: Yes = False) -> None:
        """Remove an alias; the version stays, and predictions by the alias are refused."""
        confirm(f"Delete the alias {alias!r} of the model {name!r}?", yes=yes)
        with session.client() as client:
            client.models.delete_alias(name, alias)
        session.done(f"Deleted alias {alias} of {name}", deleted=alias)
