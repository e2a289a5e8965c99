"""`mlops up` and `mlops demo`, handed to the command line through its entry point.

Every command line loads this module, so what the commands need is imported when they run.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops import errors

if TYPE_CHECKING:
    from rich.console import Console

    from mlops.local.stack import Stack

UP_EPILOG = """\b
Examples:
  mlops up --dir ./mlops-data
  mlops up --dir ./mlops-data --port 7300 --mlflow-port 5000
  mlops up --source-root s3://lake/shared --source-root 's3://lake/teams/{tenant}'
"""
DEMO_EPILOG = """\b
Examples:
  mlops demo
  mlops demo --keep --dir ./demo
"""


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("up", epilog=UP_EPILOG, help="Run the whole system on this machine, until Ctrl-C.")(up)
    app.command("demo", epilog=DEMO_EPILOG, help="Show the whole system at work in a temporary directory.")(demo)


def up(
    dir: Annotated[Path, typer.Option(help="Where everything is kept; a later start goes on with it.")] = Path(
        ".mlops"
    ),
    port: Annotated[int | None, typer.Option(help="The gateway's port.", min=1, max=65535)] = None,
    temporal_port: Annotated[int | None, typer.Option(help="Temporal's port.", min=1, max=65535)] = None,
    temporal_ui_port: Annotated[int | None, typer.Option(help="The port of Temporal's page.", min=1, max=65535)] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="MLflow's port.", min=1, max=65535)] = None,
    source_root: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Also register datasets from below this; {tenant} stands for the tenant's name. Repeat it for more.",
        ),
    ] = None,
    grace: Annotated[float, typer.Option(help="Seconds that each part may take to stop.", min=0)] = 10.0,
) -> None:
    """Starts the stack, says where everything is, and serves until SIGINT or SIGTERM."""
    with _local_extra(dir):
        from rich.console import Console

        from mlops.local.stack import Stack
        from mlops.logs import configure_logs

        configure_logs("console", "WARNING")
        ports = {"gateway": port, "temporal": temporal_port, "temporal_ui": temporal_ui_port, "mlflow": mlflow_port}
        stack = Stack(directory=dir, ports=ports, grace_seconds=grace, source_roots=tuple(source_root or ()))
        asyncio.run(_up(Console(), stack))


async def _up(console: Console, stack: Stack) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    starting = asyncio.create_task(stack.__aenter__())
    stopping = asyncio.create_task(stop.wait())
    with console.status("Starting Temporal, MLflow, gateway and workers (about 15 s) …"):
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    await starting
    try:
        _announce(console, stack)
        await stop.wait()
        console.print("Stopping …")
    finally:
        await stack.__aexit__(None, None, None)
    console.print("Stopped. Start again with the same --dir, and every job goes on where it was.")


def _announce(console: Console, stack: Stack) -> None:
    facts = {
        "Gateway": stack.address,
        "MLflow": stack.mlflow_url,
        "Temporal": stack.temporal_ui_url,
        "Directory": str(stack.directory.absolute()),
        "Administrator's key": stack.config.admin_key,
        f"Key of tenant {stack.config.tenant!r}": stack.config.tenant_key,
    }
    width = max(map(len, facts))
    console.print("[bold green]Ready.[/bold green]")
    # Whole lines, however narrow the terminal is: addresses and keys are copied from here.
    sys.stdout.write("".join(f"{name:{width}}  {value}\n" for name, value in facts.items()))
    sys.stdout.write(
        f"\nIn another shell:\n"
        f"  export MLOPS_ADDRESS={stack.address}\n"
        f"  export MLOPS_API_KEY={stack.config.tenant_key}\n"
    )
    sys.stdout.flush()


def demo(
    dir: Annotated[Path | None, typer.Option(help="Where to work; a temporary directory where it is left out.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the directory and keep serving until Ctrl-C.")] = False,
) -> None:
    """Two tenants, three real jobs, one refused look across the wall."""
    with _local_extra(dir):
        from rich.console import Console

        from mlops.local.demo import run_demo
        from mlops.logs import configure_logs

        configure_logs("console", "WARNING")
        raise typer.Exit(asyncio.run(run_demo(Console(), directory=dir, keep=keep)))


@contextmanager
def _local_extra(directory: Path | None) -> Iterator[None]:
    """Says what to install, or where the logs are, when the stack cannot be run."""
    try:
        yield
    except ImportError as error:
        raise errors.FailedPrecondition(
            f"This needs what is not installed here ({error.name}): pip install 'mlops[local]'"
        ) from error
    except errors.FailedPrecondition as error:
        if directory is not None:
            raise errors.FailedPrecondition(f"{error.message}\nThe logs are in {directory / 'logs'}") from error
        raise
