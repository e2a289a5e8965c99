"""Options that several commands take, and how their texts are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops import errors

if TYPE_CHECKING:
    from mlops.jobs.dataset import ReadOptions

Labels = Annotated[list[str] | None, typer.Option("--label", "-l", metavar="KEY=VALUE", help="Repeat it for more.")]
Limit = Annotated[int, typer.Option(min=0, help="How many to show at most; 0 for all.")]
PageSize = Annotated[int, typer.Option(min=1, max=1000, help="How many to fetch at a time.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Sort = Annotated[str | None, typer.Option(help="Order what is shown by this field.")]
Reverse = Annotated[bool, typer.Option("--reverse", help="Turn the order round.")]

Format = Annotated[str | None, typer.Option("--format", help="csv, parquet, arrow or jsonl. (default: found out)")]
Delimiter = Annotated[str | None, typer.Option(help="CSV: the field separator.")]
Encoding = Annotated[str | None, typer.Option(help="CSV: the text encoding.")]
Header = Annotated[
    bool | None, typer.Option("--header/--no-header", help="CSV: whether the first line names the columns.")
]
Nulls = Annotated[
    list[str] | None, typer.Option("--null", metavar="TEXT", help="A text that means missing; repeat it for more.")
]
Kinds = Annotated[
    list[str] | None,
    typer.Option(
        "--kind",
        metavar="COLUMN=KIND",
        help="numeric, boolean, categorical, text or datetime; repeat it for more.",
    ),
]

# Of what predicts.
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="A model: churn, churn/3 or churn@champion.")]
Version = Annotated[int | None, typer.Option("--version", "-v", min=1, help="A version's number.")]
Alias = Annotated[str | None, typer.Option("--alias", "-a", help="A version's alias.")]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--outputs",
        metavar="METHOD",
        help="predict, predict_proba or decision_function; repeat it for more. (default: predict)",
    ),
]
Proba = Annotated[bool, typer.Option("--proba", help="Short for --outputs predict --outputs predict_proba.")]


def parse_pairs(texts: list[str] | None, *, field: str) -> dict[str, str]:
    """{"a": "1"} for ["a=1"]. Raises InvalidRequest for a text without `=`."""
    found: dict[str, str] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise errors.InvalidRequest.of(field, f"{text!r} is not of the form key=value")
        found[key] = value
    return found


def parse_read_options(
    *,
    format: str | None,
    delimiter: str | None,
    encoding: str | None,
    header: bool | None,
    nulls: list[str] | None,
    kinds: list[str] | None,
) -> ReadOptions | None:
    """The options that are given, or None where none is. Raises InvalidRequest, naming each bad one."""
    given: dict[str, Any] = {
        "format": format,
        # A shell makes a real tab hard to type.
        "delimiter": "\t" if delimiter in ("\\t", "tab") else delimiter,
        "encoding": encoding,
        "has_header": header,
        "null_values": nulls or None,
        "column_kinds": parse_pairs(kinds, field="kind") or None,
    }
    given = {key: value for key, value in given.items() if value is not None}
    if not given:
        return None
    from pydantic import ValidationError

    from mlops.jobs.dataset import ReadOptions

    try:
        return ReadOptions.model_validate(given)
    except ValidationError as exc:
        violations = {
            ".".join(str(part) for part in problem["loc"]): f"{problem['msg']}, got {problem['input']!r}"
            for problem in exc.errors(include_url=False)
        }
        raise errors.InvalidRequest("invalid read options", violations=violations) from exc


def methods(outputs: list[str] | None, *, proba: bool) -> list[str]:
    """What a model is asked for: what is listed, or predict, and the probabilities where they are wanted too."""
    return [*(outputs or ["predict"]), *(["predict_proba"] if proba else [])]


def sort_by(items: list[Any], field: str | None, *, fields: tuple[str, ...], reverse: bool) -> list[Any]:
    """The items ordered by one of `fields`; as they came where none is asked for. Missing values come last."""
    if field is not None and field not in fields:
        raise errors.InvalidRequest.of("sort", f"{field!r} is none of {', '.join(fields)}")
    if field is None:
        return items[::-1] if reverse else items
    present = [item for item in items if getattr(item, field) is not None]
    missing = [item for item in items if getattr(item, field) is None]
    return sorted(present, key=lambda item: getattr(item, field), reverse=reverse) + missing


def confirm(question: str, *, yes: bool) -> None:
    """Asks before something is destroyed; without a terminal, `--yes` has to say so."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise errors.InvalidRequest(f"{question} There is no terminal to ask on: say --yes")
    typer.confirm(question, abort=True)
