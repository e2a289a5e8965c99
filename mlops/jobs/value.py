"""The root of every value that crosses a wire or a workflow boundary."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# A text that things are found by. Visibility on SQL stores cannot match a quotation mark or a backslash.
SearchText = Annotated[str, Field(pattern=r'^[^"\\\x00-\x1f]*$')]


class Value(BaseModel):
    """Frozen; unknown fields are refused; NaN and infinity survive JSON as strings."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
