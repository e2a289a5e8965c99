"""mlops train: a dataset and an estimator in, a registered model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops import errors
from mlops.cli.command import command
from mlops.cli.options import Labels, parse_pairs
from mlops.cli.session import Session

if TYPE_CHECKING:
    from mlops.jobs.training import TrainingSpec

Texts = list[str] | None


def add_to(app: typer.Typer) -> None:
    """Adds `mlops train`."""

    @command(
        app,
        "train",
        examples=(
            "mlops train --dataset churn --target left",
            (
                "mlops train --dataset churn --target left --name churn --folds 5 --estimator RandomForestClassifier "
                "--param n_estimators=200 --param max_features=0.5"
            ),
            "mlops train --dataset churn --target left --cpus 2 --memory 4GiB --time-limit 30m --no-watch",
            "mlops train --dataset churn --target left --dry-run --output yaml",
            "mlops train --spec training.yaml --request-id nightly-2026-03-01",
        ),
    )
    def train(
        session: Session,
        dataset: Annotated[
            str | None, typer.Option("--dataset", "-d", help="An id, or a name (the newest dataset of that name).")
        ] = None,
        target: Annotated[str | None, typer.Option("--target", "-t", help="The column to predict.")] = None,
        estimator: Annotated[
            str | None,
            typer.Option(
                "--estimator", "-e", help="A scikit-learn class. (default: a pipeline chosen from the columns)"
            ),
        ] = None,
        param: Annotated[
            Texts,
            typer.Option(
                "--param", "-p", metavar="NAME=VALUE", help="A parameter of the estimator, in YAML: 1 and 1.0 differ."
            ),
        ] = None,
        spec: Annotated[Path | None, typer.Option("--spec", help="A YAML file with all of it; options win.")] = None,
        name: Annotated[
            str | None, typer.Option("--name", "-n", help="The model to register. (default: logged only)")
        ] = None,
        job_name: Annotated[str | None, typer.Option(help="What the job is called in lists.")] = None,
        task: Annotated[str | None, typer.Option(help="classification or regression. (default: found out)")] = None,
        feature: Annotated[
            Texts, typer.Option("--feature", metavar="COLUMN", help="Learn from this column only; repeat it for more.")
        ] = None,
        weight_column: Annotated[str | None, typer.Option(help="The column of the rows' weights.")] = None,
        group_column: Annotated[str | None, typer.Option(help="Rows of one group are kept together.")] = None,
        time_column: Annotated[str | None, typer.Option(help="The column that orders the rows in time.")] = None,
        folds: Annotated[int | None, typer.Option(help="Cross-validate: 2-50.")] = None,
        holdout: Annotated[
            float | None, typer.Option(help="Keep this fraction of the rows apart. (default: 0.2 without folds)")
        ] = None,
        splitter: Annotated[
            str | None, typer.Option(help="shuffled, stratified, grouped or time_series. (default: chosen)")
        ] = None,
        scoring: Annotated[
            Texts,
            typer.Option("--scoring", metavar="SCORER", help="A scorer of scikit-learn; the first is the main one."),
        ] = None,
        seed: Annotated[int | None, typer.Option(help="The same seed gives the same model.")] = None,
        cpus: Annotated[int | None, typer.Option(help="Cores of each step.")] = None,
        memory: Annotated[str | None, typer.Option(help="Memory of each step: 2GiB.")] = None,
        time_limit: Annotated[str | None, typer.Option(help="How long each step may run: 30m.")] = None,
        max_attempts: Annotated[int | None, typer.Option(help="How often a step that crashed is tried.")] = None,
        label: Labels = None,
        request_id: Annotated[
            str | None, typer.Option(help="The job's id: sending the command again is the same job.")
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Check, show the plan, start nothing.")] = False,
        watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the job to its end.")] = True,
    ) -> None:
        """Train a model. Follows the job to its end; exits with 1 if it fails. Ctrl-C leaves it running."""
        given = {
            "dataset": dataset,
            "target": target,
            "name": job_name,
            "task": task,
            "features": feature,
            "weight_column": weight_column,
            "group_column": group_column,
            "time_column": time_column,
            "scoring": scoring,
            "seed": seed,
            "model_name": name,
            "max_attempts": max_attempts,
            "labels": parse_pairs(label, field="label") or None,
            "time_limit": time_limit,
        }
        nested: dict[str, dict[str, Any]] = {
            "validation": {"folds": folds, "holdout_fraction": holdout, "splitter": splitter},
            "resources": {"cpus": cpus, "memory_bytes": memory},
        }
        wanted = _spec(spec, given, nested, estimator, param)
        if dry_run:
            _show_plan(session, wanted)
        else:
            _submit(session, wanted, request_id, watch=watch)


def _spec(
    file: Path | None,
    given: dict[str, Any],
    nested: dict[str, dict[str, Any]],
    estimator: str | None,
    params: list[str] | None,
) -> TrainingSpec:
    """The spec of the file, if there is one, with the options over it."""
    from mlops.cli.specfile import estimator_from, read_spec
    from mlops.client.quantities import parse_bytes, parse_duration
    from mlops.client.training import checked_spec

    if params and not estimator:
        raise errors.InvalidRequest.of("param", "needs --estimator, which it belongs to")
    if file is None:
        for field in ("dataset", "target"):
            if given[field] is None:
                raise errors.InvalidRequest.of(field, f"is required; say --{field}, or --spec with a file that has it")
    read = read_spec(file) if file else None
    plain: dict[str, Any] = {name: getattr(read, name) for name in read.model_fields_set} if read else {}
    plain |= {name: value for name, value in given.items() if value is not None}
    for name, options in nested.items():
        before = getattr(read, name).model_dump(exclude_unset=True) if read else {}
        plain[name] = before | {key: value for key, value in options.items() if value is not None}
    if isinstance(plain["resources"].get("memory_bytes"), str):
        plain["resources"]["memory_bytes"] = parse_bytes(plain["resources"]["memory_bytes"], field="memory")
    if given["time_limit"] is not None:
        plain["time_limit"] = parse_duration(given["time_limit"], field="time_limit")
    if estimator:
        plain["estimator"] = estimator_from(estimator, params)
    return checked_spec(plain)


def _show_plan(session: Session, spec: TrainingSpec) -> None:
    from mlops.cli.jobview import plan_facts

    with session.client() as client:
        validated = client.jobs.validate(spec)
    session.show(validated, plan_facts(validated))


def _submit(session: Session, spec: TrainingSpec, request_id: str | None, *, watch: bool) -> None:
    from mlops.cli.follow import accepted

    with session.client() as client:
        accepted(session, client.submit(spec, request_id), watch=watch)
