"""Contexts: named gateways with their keys, kept in a file that only its owner can read."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops import errors, names

CONFIG_VARIABLE = "MLOPS_CONFIG"
CONTEXT_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})$")


@dataclass(frozen=True, kw_only=True)
class Context:
    """One gateway and how to speak to it. `ca_file` is a PEM file of the authorities to trust instead of the system's."""

    name: str
    address: str
    api_key: str | None = field(default=None, repr=False)
    ca_file: str | None = None

    @property
    def masked_key(self) -> str:
        """The key as it may be shown: its public id, never its secret."""
        if not self.api_key:
            return ""
        parsed = names.parse_api_key(self.api_key)
        return self.api_key.replace(parsed[1], "****") if parsed else "****"


def default_path(environ: Mapping[str, str] = os.environ) -> Path:
    """The config file: MLOPS_CONFIG, else config.toml in the user's configuration directory."""
    if named := environ.get(CONFIG_VARIABLE):
        return Path(named)
    from platformdirs import user_config_dir

    return Path(user_config_dir("mlops")) / "config.toml"


class ContextFile:
    """The contexts of one file. Every write replaces the file whole, with mode 0600."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def list(self) -> tuple[Context, ...]:
        """Every context, by name. A file that does not exist holds none."""
        entries = self._read().get("contexts", {})
        if not isinstance(entries, dict):
            raise self._unreadable("`contexts` is no table")
        return tuple(self._context(name, entry) for name, entry in sorted(entries.items()))

    def current_name(self) -> str | None:
        """The name of the context that is used where none is asked for."""
        name = self._read().get("current")
        return name if isinstance(name, str) and name else None

    def get(self, name: str) -> Context:
        """The context of that name; NotFound names the ones there are."""
        known = {context.name: context for context in self.list()}
        if name not in known:
            there = ", ".join(known) or "none"
            raise errors.NotFound(
                f"context {name!r} does not exist in {self.path} (there are: {there}); "
                f"create it with: mlops context set {name} --address HOST:PORT",
                resource_type="context",
                resource_name=name,
            )
        return known[name]

    def current(self) -> Context | None:
        """The current context, or None where none is chosen."""
        name = self.current_name()
        return self.get(name) if name else None

    def put(self, context: Context, *, use: bool = False) -> None:
        """Creates or replaces a context. The first one, or `use`, becomes the current one."""
        if not CONTEXT_NAME.match(context.name):
            raise errors.InvalidRequest.of("name", f"{context.name!r} is no context name; use letters, digits, . _ -")
        import tomlkit

        document = self._document()
        contexts = document.setdefault("contexts", tomlkit.table(is_super_table=True))
        entry = tomlkit.table()
        for key, value in (("address", context.address), ("api_key", context.api_key), ("ca_file", context.ca_file)):
            if value:
                entry[key] = value
        contexts[context.name] = entry
        if use or not self.current_name():
            document["current"] = context.name
        self._write(tomlkit.dumps(document))

    def use(self, name: str) -> Context:
        """Makes a context the current one."""
        import tomlkit

        context = self.get(name)
        document = self._document()
        document["current"] = name
        self._write(tomlkit.dumps(document))
        return context

    def delete(self, name: str) -> None:
        """Removes a context; if it was the current one, there is none afterwards."""
        import tomlkit

        self.get(name)
        document = self._document()
        del document["contexts"][name]
        if document.get("current") == name:
            del document["current"]
        self._write(tomlkit.dumps(document))

    def _context(self, name: str, entry: object) -> Context:
        if not isinstance(entry, dict) or not isinstance(entry.get("address"), str):
            raise self._unreadable(f"context {name!r} has no address")
        texts = {key: entry[key] for key in ("api_key", "ca_file") if isinstance(entry.get(key), str)}
        return Context(name=name, address=entry["address"], **texts)

    def _read(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
            raise self._unreadable(str(exc)) from exc

    def _document(self) -> Any:
        import tomlkit

        self.list()  # A file that cannot be read is refused before it is overwritten.
        # tomlkit keeps the comments of a file that was edited by hand.
        return tomlkit.parse(self.path.read_text(encoding="utf-8")) if self.path.exists() else tomlkit.document()

    def _unreadable(self, problem: str) -> errors.InvalidRequest:
        return errors.InvalidRequest(f"the config file {self.path} cannot be used: {problem}; mend or remove it")

    def _write(self, text: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".config-")  # born with mode 0600
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            Path(temporary).chmod(stat.S_IRUSR | stat.S_IWUSR)
            Path(temporary).replace(self.path)
        except OSError as exc:
            raise errors.FailedPrecondition(f"the config file {self.path} cannot be written: {exc}") from exc
