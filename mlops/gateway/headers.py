"""What is known of a dataset before its bytes, and the rules for it."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from mlops import names
from mlops.jobs.dataset import ReadOptions
from mlops.jobs.labels import KEY, MAX_LABELS, MAX_VALUE_LENGTH
from mlops.jobs.value import Value
from mlops.tenants.datasets import MAX_NAME_CHARS

MAX_FILE_NAME_CHARS = 500
MAX_URI_CHARS = 2000
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


def dataset_name(text: str) -> str:
    """The name, if a dataset may have it. "" is one that is left out. Raises ValueError."""
    if len(text) > MAX_NAME_CHARS or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be 1-{MAX_NAME_CHARS} printable characters without blanks around them")
    if text.endswith("*"):
        raise ValueError("must not end in '*', which lists read as a prefix")
    if names.DATASET_ID.fullmatch(text):
        raise ValueError("must not look like a dataset's id")
    return text


def _sha256(text: str) -> str:
    if text and not _SHA256.fullmatch(text):
        raise ValueError("must be 64 hexadecimal digits")
    return text.lower()


def _label_key(text: str) -> str:
    if not KEY.fullmatch(text):
        raise ValueError("is no key: 1-63 letters, digits, dots, slashes, hyphens and underscores")
    return text


DatasetName = Annotated[str, AfterValidator(dataset_name)]
Labels = Annotated[
    dict[Annotated[str, AfterValidator(_label_key)], Annotated[str, Field(max_length=MAX_VALUE_LENGTH)]],
    Field(max_length=MAX_LABELS),
]


class UploadHeader(Value):
    """What is known of an upload before its bytes. Empty texts are left out."""

    name: DatasetName = ""
    # The original file's name; its suffix hints at the format.
    file_name: str = Field(default="", max_length=MAX_FILE_NAME_CHARS)
    # What the bytes are compared with.
    sha256: Annotated[str, AfterValidator(_sha256)] = ""
    size_bytes: int | None = Field(default=None, ge=0)
    read_options: ReadOptions = ReadOptions()
    labels: Labels = Field(default_factory=dict)


class Registration(Value):
    """Where to take a dataset from. An empty name is the URI's last part."""

    uri: str = Field(min_length=1, max_length=MAX_URI_CHARS)
    name: DatasetName = ""
    read_options: ReadOptions = ReadOptions()
    labels: Labels = Field(default_factory=dict)
