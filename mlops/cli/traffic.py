"""mlops model traffic: how requests are shared out between versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops import errors
from mlops.cli.command import command, noun
from mlops.cli.session import Session

if TYPE_CHECKING:
    from rich.table import Table

    from mlops.jobs.serving import ShadowFigures, TrafficRule

Name = Annotated[str, typer.Argument(help="The model.")]


def add_to(models: typer.Typer) -> None:
    """Adds `mlops model traffic`."""
    group = noun(models, "traffic", "How requests that name no version are shared out.")

    @command(group, "get", examples=("mlops model traffic get churn", "mlops model traffic get churn --output json"))
    def get(session: Session, name: Name) -> None:
        """Show the rule, and what shadow traffic has shown since it was set."""
        with session.client() as client:
            found = client.models.traffic(name)
        session.show(found, traffic_facts(found.rule, found.shadow))

    @command(
        group,
        "set",
        examples=(
            "mlops model traffic set churn --challenger 2 --challenger-share 0.1",
            "mlops model traffic set churn --champion champion --challenger 2 --shadow-share 1",
            "mlops model traffic set churn --clear",
        ),
    )
    def set_traffic(
        session: Session,
        name: Name,
        champion: Annotated[
            str | None, typer.Option(help="Answers the rest: a number or an alias. (default: the champion)")
        ] = None,
        challenger: Annotated[str | None, typer.Option(help="The other version: a number or an alias.")] = None,
        challenger_share: Annotated[
            float | None, typer.Option(min=0, max=1, help="Of the requests, by the hash of their key.")
        ] = None,
        shadow_share: Annotated[
            float | None,
            typer.Option(min=0, max=1, help="Of the champion's requests: both score, answers are compared."),
        ] = None,
        clear: Annotated[bool, typer.Option("--clear", help="Remove the rule.")] = False,
    ) -> None:
        """Change what is given of the rule; the rest stays as it is. In force within two seconds."""
        options: dict[str, Any] = {
            "champion": champion,
            "challenger": challenger,
            "challenger_share": challenger_share,
            "shadow_share": shadow_share,
        }
        given = {field: value for field, value in options.items() if value is not None}
        if clear == bool(given):
            raise errors.InvalidRequest("say what to change of the rule, or --clear alone to remove it")
        from mlops.jobs.serving import TrafficRule

        with session.client() as client:
            before = TrafficRule() if clear else client.models.traffic(name).rule
            rule = client.models.set_traffic(name, before.model_copy(update=given))
        session.show(rule, traffic_facts(rule))


def traffic_facts(rule: TrafficRule, shadow: ShadowFigures | None = None) -> Table:
    """A rule for people, with what shadow traffic has shown."""
    from mlops.cli import humane
    from mlops.cli.table import facts_table

    facts = [
        ("Champion", rule.champion or "the alias champion, else the newest version"),
        ("Challenger", rule.challenger or "none"),
        ("Its share", f"{rule.challenger_share:.1%}" if rule.challenger else ""),
        ("Shadow share", f"{rule.shadow_share:.1%}" if rule.challenger else ""),
    ]
    if shadow is not None and (shadow.compared_rows or shadow.skipped_requests):
        share = shadow.differing_rows / shadow.compared_rows if shadow.compared_rows else 0.0
        facts += [
            ("Compared", f"{shadow.compared_rows:,} rows"),
            ("Differing", f"{shadow.differing_rows:,} rows ({share:.2%})"),
            (
                "Difference",
                f"mean {humane.number(shadow.mean_difference)}, at most {humane.number(shadow.max_difference)}",
            ),
            ("Not compared", f"{shadow.skipped_requests:,} requests"),
            ("Since", humane.ago(shadow.since)),
        ]
    return facts_table(facts)
