"""A model, or one version of it, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from mlops.jobs.model import Model, ModelVersion


def model_facts(model: Model) -> Table:
    """A model for people."""
    from mlops.cli import humane
    from mlops.cli.table import facts_table

    return facts_table(
        [
            ("Model", model.name),
            ("Description", model.description),
            ("Latest version", str(model.latest_version or "none")),
            ("Aliases", aliases_text(model)),
            ("Created", humane.ago(model.created_at)),
            ("Updated", humane.ago(model.updated_at)),
        ]
    )


def version_facts(version: ModelVersion) -> Group:
    """A version for people."""
    from rich.console import Group
    from rich.text import Text

    from mlops.cli import humane
    from mlops.cli.table import facts_table, rows_table

    facts = facts_table(
        [
            ("Model", f"{version.model_name}, version {version.version}"),
            ("Aliases", ", ".join(version.aliases)),
            ("Estimator", version.estimator),
            ("Task", version.task),
            ("Job", version.job_id),
            ("Run", version.run_id),
            ("Dataset", version.dataset_id),
            ("Dataset SHA-256", version.dataset_sha256),
            ("Owner", version.owner),
            ("Created", humane.ago(version.created_at)),
            ("Files", version.artifact_uri),
            ("Size", humane.size(version.size_bytes)),
            ("Inputs", ", ".join(f"{column.name}: {column.type}" for column in version.signature.inputs)),
            ("Libraries", ", ".join(f"{name} {number}" for name, number in sorted(version.library_versions.items()))),
        ]
    )
    metrics = rows_table(("metric", "value>"), [(k, humane.number(v)) for k, v in sorted(version.metrics.items())])
    params = rows_table(("parameter", "value"), sorted(version.params.items()))
    parts = [metrics] if version.metrics else []
    parts += [params] if version.params else []
    return Group(facts, *(item for part in parts for item in (Text(""), part)))


def aliases_text(model: Model) -> str:
    """Each alias and its version: champion=3, challenger=4."""
    return ", ".join(f"{alias}={version}" for alias, version in sorted(model.aliases.items()))
