"""Which model is meant: churn, churn/3, churn@champion."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mlops import errors
from mlops.jobs.model import Model, ModelVersion
from mlops.jobs.report import TrainingResult

# As MLflow writes models, with or without its scheme.
_WRITTEN = re.compile(r"^(?:models:/)?(?P<name>[^/@]+)(?:/(?P<version>[0-9]+)|@(?P<alias>[^/@]+))?\Z")


@dataclass(frozen=True, kw_only=True)
class ModelReference:
    """A model by its name and, of version and alias, at most one. Neither: the platform chooses."""

    name: str
    version: int | None = None
    alias: str | None = None


def model_reference(
    model: str | Model | ModelVersion | TrainingResult, version: int | None = None, alias: str | None = None
) -> ModelReference:
    """The model that the arguments of a call name.

    model: a name, "churn/3" or "churn@champion" (with "models:/" before it or not), or what the SDK returned.
    Raises InvalidRequest where nothing is named, or more than one version.
    """
    name, own_version, own_alias = _parts(model)
    given = [found for found in (own_version, own_alias, version, alias) if found is not None]
    if len(given) > 1:
        listed = " and ".join(str(found) for found in given)
        raise errors.InvalidRequest.of("model", f"its version is given more than once: {listed}; say one of them")
    if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 1):
        raise errors.InvalidRequest.of("version", f"{version!r} is no version: they count from 1")
    return ModelReference(
        name=name,
        version=own_version if version is None else version,
        alias=own_alias if alias is None else alias,
    )


def _parts(model: str | Model | ModelVersion | TrainingResult) -> tuple[str, int | None, str | None]:
    if isinstance(model, Model):
        return model.name, None, None
    if isinstance(model, ModelVersion):
        return model.model_name, model.version, None
    if isinstance(model, TrainingResult):
        if model.model_name is None:
            raise errors.InvalidRequest.of(
                "model", "the training registered none; give `name` to train to predict with what it makes"
            )
        return model.model_name, model.model_version, None
    found = _WRITTEN.match(model) if isinstance(model, str) else None
    if found is None or found["version"] == "0":
        raise errors.InvalidRequest.of("model", f"{model!r} names no model; write churn, churn/3 or churn@champion")
    return found["name"], int(found["version"]) if found["version"] else None, found["alias"]
