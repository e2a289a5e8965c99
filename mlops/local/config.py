"""What an embedded stack keeps in its directory: ports and secrets, made once, so that a restart is the same stack."""

from __future__ import annotations

import json
import os
import secrets
import socket
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from mlops import names

FILE = "stack.json"
# Taken where it is free.
GATEWAY_PORT = 7300


class Ports(BaseModel):
    """Ports on 127.0.0.1."""

    model_config = ConfigDict(frozen=True)

    gateway: int
    temporal: int
    temporal_ui: int
    mlflow: int
    # Missing in the files of earlier versions.
    serving: int = 0
    serving_health: int = 0


def _hex_secret() -> str:
    return secrets.token_hex(32)


def _admin_key() -> str:
    return names.new_api_key()[2]


class StackConfig(BaseModel):
    """One embedded stack. Holds secrets: the file is readable by its owner only."""

    model_config = ConfigDict(frozen=True)

    ports: Ports
    admin_key: str = Field(default_factory=_admin_key)
    secret_key: str = Field(default_factory=_hex_secret)
    mlflow_admin_password: str = Field(default_factory=_hex_secret)
    # The first tenant's slug and key, once it is made.
    tenant: str = "local"
    tenant_key: str = ""

    @classmethod
    def open(cls, directory: Path, **ports: int | None) -> Self:
        """The directory's configuration, made on first use; ports that are given win.

        Nothing is written: that is for a stack that holds the directory's lock.
        """
        file = directory / FILE
        given = {name: port for name, port in ports.items() if port is not None}
        if cls.is_kept(directory):
            config = cls.model_validate_json(file.read_text())
            kept = {name: port for name, port in config.ports.model_dump().items() if port}
            config = config.model_copy(update={"ports": Ports(**{**_free_ports(), **kept, **given})})
        else:
            config = cls(ports=Ports(**{**_free_ports(), **given}))
        return config

    @staticmethod
    def is_kept(directory: Path) -> bool:
        """Whether the directory has a configuration already."""
        return (directory / FILE).exists()

    def save(self, directory: Path) -> None:
        """Writes the file whole, or not at all."""
        draft = directory / f"{FILE}.draft"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(self.model_dump(mode="json"), file, indent=2)
        draft.replace(directory / FILE)


def _free_ports() -> dict[str, int]:
    """A free port for each part. All are held until the last is found, so that none is found twice."""
    found: dict[str, int] = {}
    listeners = []
    for name in Ports.model_fields:
        listener = socket.socket()
        listeners.append(listener)
        if name == "gateway":
            try:
                listener.bind(("127.0.0.1", GATEWAY_PORT))
            except OSError:
                listener.bind(("127.0.0.1", 0))
        else:
            listener.bind(("127.0.0.1", 0))
        found[name] = int(listener.getsockname()[1])
    for listener in listeners:
        listener.close()
    return found
