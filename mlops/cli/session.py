"""What every command is given: how to reach the gateway, and how to show what it finds."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel
    from rich.console import Console, RenderableType

    from mlops.client import Client

# Wide enough that nothing is cut where no terminal limits the width.
PIPE_COLUMNS = 4000


class Output(StrEnum):
    """How results are shown."""

    table = "table"  # for people
    json = "json"  # for programs: stable
    yaml = "yaml"  # the same as json, in YAML


@dataclass(frozen=True, kw_only=True)
class Session:
    """The common options of one command."""

    context: str | None = None
    address: str | None = None
    api_key: str | None = None
    timeout: str | None = None
    output: Output = Output.table
    debug: bool = False

    def client(self) -> Client:
        """The SDK's client. gRPC is loaded here, and not before."""
        from mlops.client import Client

        options: dict[str, Any] = {} if self.timeout is None else {"timeout": self.timeout}
        return Client(self.address, self.api_key, context=self.context, **options)

    @property
    def console(self) -> Console:
        """Standard output."""
        from rich.console import Console

        # Colours of our own, none guessed from the contents: an id is no number.
        return Console(width=None if sys.stdout.isatty() else PIPE_COLUMNS, highlight=False, soft_wrap=False)

    @property
    def for_people(self) -> bool:
        """Whether results are shown as tables and text."""
        return self.output is Output.table

    def note(self, text: str) -> None:
        """A remark beside the result: on standard error, so that pipes do not see it."""
        from rich.console import Console

        Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)

    def done(self, text: str, **facts: str) -> None:
        """Says that something was done: as a sentence, or as its facts for programs."""
        if self.for_people:
            self.console.print(text, markup=False)
        else:
            self.emit(facts)

    def show(self, value: BaseModel | Sequence[BaseModel], rendered: RenderableType) -> None:
        """One value, or a list of them: `rendered` for people, the values themselves for programs."""
        if self.for_people:
            self.console.print(rendered)
        else:
            self.emit([plain(item) for item in value] if isinstance(value, Sequence) else plain(value))

    def emit(self, data: Any) -> None:
        """Plain data as JSON or YAML."""
        if self.output is Output.yaml:
            import yaml

            text = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        else:
            text = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
        sys.stdout.write(text)
        sys.stdout.flush()

    def emit_line(self, data: Any) -> None:
        """One item of a stream: a line of JSON, or a YAML document."""
        if self.output is Output.yaml:
            import yaml

            text = "---\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
        else:
            text = json.dumps(data, ensure_ascii=False) + "\n"
        sys.stdout.write(text)
        sys.stdout.flush()


def plain(value: BaseModel) -> Any:
    """The value's JSON, as data. NaN and infinity are texts, as in every JSON of ours."""
    return json.loads(value.model_dump_json())


def take(items: Iterable[Any], limit: int) -> tuple[list[Any], bool]:
    """(the first `limit` items, whether there are more); 0 takes all."""
    found: list[Any] = []
    for item in items:
        if limit and len(found) == limit:
            return found, True
        found.append(item)
    return found, False
