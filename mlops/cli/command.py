"""How a command is declared: its options, the ones that all share, and examples that a test runs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from mlops.cli.session import Output, Session

EXAMPLES = "Examples:"


def _options(
    *,
    output: Annotated[Output, typer.Option("--output", "-o", help="How to show the result.")] = Output.table,
    context: Annotated[
        str | None,
        typer.Option(help="The context to use. [env: MLOPS_CONTEXT]", autocompletion=lambda: context_names()),
    ] = None,
    address: Annotated[
        str | None, typer.Option(help="host:port of the gateway; grpcs://host:port for TLS. [env: MLOPS_ADDRESS]")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="The API key; the variable hides it from other users. [env: MLOPS_API_KEY]")
    ] = None,
    call_timeout: Annotated[
        str | None, typer.Option(help="How long one call to the gateway may take: 30s, 2m. (default: 30s)")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> Session:
    return Session(output=output, context=context, address=address, api_key=api_key, timeout=call_timeout, debug=debug)


def command(
    app: typer.Typer, name: str, *, examples: tuple[str, ...]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Adds a command to `app`. The function's first argument is the Session; its docstring is the help."""

    def declare(function: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(function, eval_str=True)
        own = list(signature.parameters.values())[1:]
        shared = list(inspect.signature(_options, eval_str=True).parameters.values())

        def run(**arguments: Any) -> None:
            session = _options(**{parameter.name: arguments.pop(parameter.name) for parameter in shared})
            function(session, **arguments)

        parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + shared
        # What Typer reads of a function.
        run.__doc__ = function.__doc__
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # not in typeshed
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name, epilog=_epilog(examples), no_args_is_help=False)(run)
        return function

    return declare


def noun(
    app: typer.Typer, name: str, help: str, *, cls: type[TyperGroup] = TyperGroup, examples: tuple[str, ...] = ()
) -> typer.Typer:
    """A group of commands."""
    epilog = _epilog(examples) if examples else None
    group = typer.Typer(help=help, epilog=epilog, cls=cls, no_args_is_help=True, rich_markup_mode=None)
    app.add_typer(group, name=name)
    return group


def context_names() -> list[str]:
    """The contexts that there are, for the shell's completion."""
    from mlops.client.contexts import ContextFile

    return [context.name for context in ContextFile().list()]


def _epilog(examples: tuple[str, ...]) -> str:
    # \b keeps the lines as they are.
    return "\b\n" + "\n".join([EXAMPLES, *(f"  {example}" for example in examples)])
