"""A job as it goes: a live view on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mlops.cli import humane
from mlops.cli.session import Session, plain
from mlops.cli.table import state_text
from mlops.jobs.job import Job, JobEvent, JobState, StepProgress, StepState

if TYPE_CHECKING:
    from rich.console import RenderableType

BAR_COLUMNS = 24
STATE_COLUMNS = max(len(state) for state in StepState)
# Steps that are shown one by one; of more, the ones that have ended are summed up.
MAX_STEPS = 20


class JobView:
    """What is known of a job, and how it looks. Fed with its events."""

    def __init__(self, job_id: str, *, name: str = "", started: datetime | None = None) -> None:
        self.job_id = job_id
        self.name = name
        self.started = started or datetime.now(UTC)
        self.state = JobState.QUEUED
        self.steps: dict[str, StepProgress] = {}
        self.metrics: dict[str, dict[str, float]] = {}
        self.job: Job | None = None

    def feed(self, event: JobEvent) -> None:
        """Takes an event in."""
        if event.state is not None:
            self.state = event.state
        if event.step is not None:
            self.steps[event.step.step] = event.step
        if event.metrics is not None:
            self.metrics[event.metrics_step] = event.metrics
        if event.job is not None:
            self.job, self.state = event.job, event.job.state
            self.steps.update({step.step: step for step in event.job.steps})

    def line(self, event: JobEvent) -> str | None:
        """The event as one line of a log; None for what says nothing."""
        time = event.time.astimezone().strftime("%H:%M:%S")
        if event.state is not None:
            return f"{time} {self.job_id} {event.state}"
        if event.metrics is not None:
            return f"{time} {event.metrics_step}: {humane.numbers(event.metrics)}"
        if event.step is not None:
            step = event.step
            done = "" if step.fraction is None else f" {step.fraction:.0%}"
            attempt = f" (attempt {step.attempt})" if step.attempt > 1 else ""
            details = humane.progress(step.message, step.values)
            return f"{time} {step.step}: {step.state}{done}{attempt} {details}".rstrip()
        return None

    def __rich__(self) -> RenderableType:
        passed = (self.job.finished_at if self.job and self.job.finished_at else datetime.now(UTC)) - self.started
        head = Text.assemble(
            (self.name or self.job_id, "bold"), "  ", state_text(self.state), "  ", (humane.duration(passed), "dim")
        )
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        steps = list(self.steps.values())
        # On a narrow terminal it is the details that are cut.
        for width in (max((len(step.step) for step in steps), default=0), BAR_COLUMNS, STATE_COLUMNS, 0):
            table.add_column(no_wrap=True, overflow="ellipsis", min_width=width)
        ended = [step for step in steps if step.state is StepState.SUCCEEDED]
        shown = steps if len(steps) <= MAX_STEPS else [step for step in steps if step not in ended][:MAX_STEPS]
        if len(shown) < len(steps):
            table.add_row(Text(f"{len(ended)} steps"), Text("done", style="green"), "", "")
        for step in shown:
            details = humane.progress(step.message, self.metrics.get(step.step) or step.values)
            table.add_row(Text(step.step), _bar(step), state_text(step.state), Text(details, style="dim"))
        return Group(head, table)


def follow(session: Session, view: JobView, events: Iterable[JobEvent]) -> Job | None:
    """Shows events as they come, in the way that the output asks for, and returns the job as it ended."""
    console = session.console
    if not session.for_people:
        for event in events:
            view.feed(event)
            session.emit_line({key: value for key, value in plain(event).items() if value not in (None, "")})
    elif console.is_terminal:
        # Ended views stay on the screen, so that the log above them reads on.
        with Live(view, console=console, refresh_per_second=8):
            for event in events:
                view.feed(event)
    else:
        _print_lines(console, view, events)
    return view.job


def _print_lines(console: Console, view: JobView, events: Iterable[JobEvent]) -> None:
    # A log of every percent would hide what matters: a line a state, and one a tenth of a step.
    printed: dict[str, tuple[StepState, int]] = {}
    for event in events:
        view.feed(event)
        if event.step is not None:
            mark = (event.step.state, int((event.step.fraction or 0.0) * 10))
            if printed.get(event.step.step) == mark:
                continue
            printed[event.step.step] = mark
        line = view.line(event)
        if line is not None:
            console.print(Text(line))


def _bar(step: StepProgress) -> RenderableType:
    if step.state is StepState.SUCCEEDED:
        return ProgressBar(total=1.0, completed=1.0, width=BAR_COLUMNS)
    if step.state is StepState.RUNNING and step.fraction is None:
        return Spinner("dots", style="blue")
    return ProgressBar(total=1.0, completed=step.fraction or 0.0, width=BAR_COLUMNS)
