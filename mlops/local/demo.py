"""The demonstration: two tenants side by side on real servers; models trained, then asked; one wall."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from mlops import errors, names
from mlops.client import AsyncClient
from mlops.client.handle import AsyncJobHandle
from mlops.jobs.job import Job, JobEvent, JobState, StepState
from mlops.local.stack import Stack

JOB_SECONDS = 180.0


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One job of the demonstration."""

    tenant: str
    title: str
    # A loader of sklearn.datasets, by its name.
    data: str
    model: str
    estimator: object | None
    options: dict[str, Any] = field(default_factory=dict)


async def run_demo(console: Console, *, directory: Path | None, keep: bool) -> int:
    """Runs it all; 0 when every part did what it should."""
    with ExitStack() as cleanup:
        if directory is None:
            directory = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="mlops-demo-")))
        with console.status("Starting Temporal, MLflow, gateway, workers and serving (about 15 s) …"):
            stack = await Stack(directory=directory).__aenter__()
        try:
            console.print(f"[bold]1. The stack is up:[/bold] gateway {stack.address}, MLflow {stack.mlflow_url}")
            code = await _story(console, stack)
            if keep:
                console.print("\nServing until Ctrl-C.")
                await asyncio.Event().wait()
        finally:
            with console.status("Stopping …"):
                await stack.__aexit__(None, None, None)
    return code


async def _story(console: Console, stack: Stack) -> int:
    assignments = _assignments()
    clients: dict[str, AsyncClient] = {}
    try:
        async with AsyncClient(stack.address, stack.config.admin_key) as admin:
            for slug in dict.fromkeys(one.tenant for one in assignments):
                created = await admin.tenants.create(slug)
                if created.key is None:
                    raise errors.AlreadyExists(f"tenant {slug!r} exists already; run the demo in a new --dir")
                clients[slug] = AsyncClient(stack.address, created.key.secret)
                console.print(f"[bold]2. Tenant {slug}:[/bold] namespace, workspace, storage and key are ready")
        handles = await asyncio.gather(*(_submit(clients[one.tenant], one) for one in assignments))
        console.print("[bold]3. Three jobs, two tenants, one pool of cores:[/bold]")
        async with asyncio.timeout(JOB_SECONDS):
            jobs = await _watch(console, assignments, handles)
        _show_results(console, assignments, jobs)
        if not all(job.state is JobState.SUCCEEDED for job in jobs):
            return 1
        owner, first = clients[assignments[0].tenant], assignments[0]
        async with asyncio.timeout(JOB_SECONDS):
            predicted = await _predict_many(console, owner, first)
            answered = await _predict_few(console, owner, first)
        refused = await _look_across(console, clients, handles[0].id, first.model)
        _show_mlflow(console, stack, assignments, jobs)
    finally:
        await asyncio.gather(*(client.close() for client in clients.values()))
    return 0 if predicted and answered and refused else 1


def _assignments() -> Sequence[Assignment]:
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return (
        Assignment(
            tenant="clinic",
            title="tumours: classification, defaults",
            data="breast_cancer",
            model="tumours",
            estimator=None,
        ),
        Assignment(
            tenant="clinic",
            title="diabetes: regression",
            data="diabetes",
            model="progression",
            estimator=GradientBoostingRegressor(n_estimators=300, max_depth=2, learning_rate=0.05),
        ),
        Assignment(
            tenant="post",
            title="digits: pipeline, 5 folds",
            data="digits",
            model="digits",
            estimator=make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
            options={"folds": 5},
        ),
    )


async def _submit(client: AsyncClient, one: Assignment) -> AsyncJobHandle:
    from sklearn import datasets

    frame = getattr(datasets, f"load_{one.data}")(as_frame=True).frame
    dataset = await client.datasets.upload(frame, name=one.data)
    return await client.train(one.estimator, dataset, target="target", name=one.model, **one.options)


async def _watch(console: Console, assignments: Sequence[Assignment], handles: Sequence[AsyncJobHandle]) -> list[Job]:
    columns = (
        TextColumn("{task.fields[tenant]:8}"),
        TextColumn("{task.description:36}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>4.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:

        async def one(assignment: Assignment, handle: AsyncJobHandle) -> Job:
            bar = progress.add_task(assignment.title, tenant=assignment.tenant, total=1.0, note="queued")
            fractions: dict[str, float] = {}
            async for event in handle.watch():
                _advance(progress, bar, fractions, event)
            return handle.job

        return list(await asyncio.gather(*(one(*pair) for pair in zip(assignments, handles, strict=True))))


def _advance(progress: Progress, bar: TaskID, fractions: dict[str, float], event: JobEvent) -> None:
    if event.step is not None:
        done = event.step.state is StepState.SUCCEEDED
        fractions[event.step.step] = 1.0 if done else event.step.fraction or 0.0
        # evaluate, log, register and finish are known to follow.
        expected = max(len(fractions), 5)
        note = f"{event.step.step} {event.step.message}".strip()
        progress.update(bar, completed=min(sum(fractions.values()) / expected, 0.99), note=note[:40])
    if event.job is not None:
        progress.update(bar, completed=1.0, note=event.job.state.value)


def _show_results(console: Console, assignments: Sequence[Assignment], jobs: Sequence[Job]) -> None:
    # Narrow: whole in 80 columns, which is what there is where nobody looks on.
    table = Table(title="Results", title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("Tenant", "Data", "Metric", "Value", "Fits", "Model"):
        table.add_column(heading, no_wrap=True)
    for one, job in zip(assignments, jobs, strict=True):
        if job.result is None:
            table.add_row(one.tenant, one.data, "-", "-", "-", job.state.value)
            continue
        metric, value = _main_metric(job)
        seconds = f"{job.result.report.total_fit_seconds:.1f} s"
        table.add_row(one.tenant, one.data, metric, value, seconds, job.result.model_uri)
    console.print(table)
    for job in jobs:
        if job.failure is not None:
            console.print(f"[red]{job.id} failed in {job.failure.step}: {job.failure.message}[/red]")


def _main_metric(job: Job) -> tuple[str, str]:
    if job.plan is None or job.result is None:
        return "-", "-"
    main, report = job.plan.scoring[0], job.result.report
    for summary in report.cross_validation:
        if summary.name == main:
            return main, f"{summary.mean:.3f} ± {summary.deviation:.3f}"
    return main, f"{report.holdout[main]:.3f}"


async def _predict_many(console: Console, client: AsyncClient, one: Assignment) -> bool:
    """A batch job over the whole dataset, in shards, scored against its labels."""
    handle = await client.predict_batch(
        one.model, one.data, outputs=["predict", "predict_proba"], carry=["target"], target="target", rows_per_shard=100
    )
    columns = (TextColumn("{task.description:45}"), BarColumn(bar_width=30), TextColumn("{task.fields[note]}"))
    console.print(f"[bold]4. A batch job:[/bold] {one.model} over {one.data}, 100 rows a shard")
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(f"{one.tenant:8} predict, summarise, commit", total=1.0, note="queued")
        async for event in handle.watch():
            if event.step is not None and event.step.step == names.PREDICT_STEP:
                progress.update(bar, completed=min(event.step.fraction or 0.0, 0.99), note=event.step.message[:40])
            if event.job is not None:
                progress.update(bar, completed=1.0, note=event.job.state.value)
    report = (await handle.wait()).report
    frame = await handle.result()
    console.print(
        f"   {report.rows} rows in {len(report.files)} files, accuracy {report.scores['accuracy']:.3f} on the rows it was"
        f" trained on, largest drift {max(drift.psi for drift in report.drift):.3f}",
        highlight=False,
        soft_wrap=True,
    )
    return len(frame) == report.rows


async def _predict_few(console: Console, client: AsyncClient, one: Assignment) -> bool:
    """Three rows, online; the first answer has to wait until the model is loaded."""
    from sklearn import datasets

    rows = getattr(datasets, f"load_{one.data}")(as_frame=True).frame.head(3).drop(columns="target")
    await client.predict(one.model, rows)
    began = time.perf_counter()
    answer = await client.predict(one.model, rows, outputs=["predict", "predict_proba"])
    milliseconds = (time.perf_counter() - began) * 1000
    console.print(f"[bold]5. Online:[/bold] three rows of {one.data} through the gateway in {milliseconds:.1f} ms")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 3))
    for heading in answer.columns:
        table.add_column(heading, justify="right", no_wrap=True)
    for values in answer.itertuples(index=False):
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values))
    console.print(table)
    return len(answer) == len(rows)


async def _look_across(console: Console, clients: dict[str, AsyncClient], job_id: str, model: str) -> bool:
    """The second tenant asks for the first one's job, and for its model: it must look as if there were none."""
    (owner, *_), stranger = list(clients), list(clients)[-1]
    heard: list[str] = []
    for ask in (clients[stranger].jobs.get(job_id), clients[stranger].predict(model, {"mean radius": [1.0]})):
        try:
            await ask
        except errors.NotFound as error:
            heard.append(error.message)
    if len(heard) < 2:
        console.print(f"[red]6. The wall is broken: {stranger} can see what is {owner}'s[/red]")
        return False
    console.print(
        f"[bold]6. The wall:[/bold] {stranger} asks for {owner}'s job and model and hears: "
        f"[green]{'; '.join(heard)}[/green]",
        soft_wrap=True,
    )
    return True


def _show_mlflow(console: Console, stack: Stack, assignments: Sequence[Assignment], jobs: Sequence[Job]) -> None:
    console.print(f"[bold]7. In MLflow:[/bold] {stack.mlflow_url}, user admin, password in stack.json", soft_wrap=True)
    for one, job in zip(assignments, jobs, strict=True):
        if job.result is not None:
            where = f"workspace {names.workspace(one.tenant)}, experiment {names.experiment(one.model)}"
            console.print(f"   {where}, run {job.result.run_id}", highlight=False, soft_wrap=True)
    console.print("   To look around: `mlops demo --keep --dir demo`. For real work: `mlops up`.")
