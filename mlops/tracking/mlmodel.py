"""The files of a model directory as MLflow 3's own loaders read them: mlflow.sklearn and mlflow.pyfunc."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import yaml

from mlops.errors import InvalidRequest
from mlops.jobs.model import Signature, SignatureColumn

# The layout is this version's; a reader needs it, or a later one.
MLFLOW_VERSION = "3.17.2"

MLMODEL = "MLmodel"
MODEL_FILE = "model.skops"
CONDA = "conda.yaml"
PYTHON_ENV = "python_env.yaml"
REQUIREMENTS = "requirements.txt"
EXAMPLE = "input_example.json"
SERVING_EXAMPLE = "serving_input_example.json"

# Of `versions`, what is no distribution that a model's reader would install.
_NOT_REQUIRED = frozenset({"python", "mlops", "mlflow"})
# libyaml's, where PyYAML was built with it: ten times faster on a signature of thousands of columns.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def model_directory(
    *,
    model_id: str,
    run_id: str,
    artifact_uri: str,
    signature: Signature,
    input_example: bytes | None,
    trusted_types: tuple[str, ...],
    versions: Mapping[str, str],
    model_bytes: int,
    created_at: datetime,
) -> dict[str, bytes]:
    """Every file but the model's own, by name.

    Raises InvalidRequest where the input example is no JSON of pandas' `split` orientation.
    """
    python = versions.get("python", "")
    requirements = _requirements(versions)
    files = {
        REQUIREMENTS: "\n".join(requirements).encode(),
        CONDA: _yaml(
            {
                "name": "mlflow-env",
                "channels": ["conda-forge"],
                "dependencies": [f"python={python}" if python else "python", "pip", {"pip": requirements}],
            }
        ),
        PYTHON_ENV: _yaml(
            {
                **({"python": python} if python else {}),
                "build_dependencies": ["pip", "setuptools", "wheel"],
                "dependencies": [f"-r {REQUIREMENTS}"],
            }
        ),
        **_examples(input_example),
    }
    about: dict[str, Any] = {
        "artifact_path": artifact_uri,
        "flavors": {
            "python_function": {
                "env": {"conda": CONDA, "virtualenv": PYTHON_ENV},
                "loader_module": "mlflow.sklearn",
                "model_path": MODEL_FILE,
                "predict_fn": "predict",
                "python_version": python,
            },
            "sklearn": {
                "code": None,
                "pickled_model": MODEL_FILE,
                "serialization_format": "skops",
                "sklearn_version": versions.get("scikit-learn", ""),
                "skops_trusted_types": sorted(trusted_types),
            },
        },
        "is_signature_from_type_hint": False,
        "mlflow_version": MLFLOW_VERSION,
        "model_id": model_id,
        "model_size_bytes": model_bytes + sum(map(len, files.values())),
        "model_uuid": model_id,
        "prompts": None,
        "run_id": run_id,
        "type_hint_from_example": False,
        "utc_time_created": created_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
    }
    if input_example is not None:
        about["saved_input_example_info"] = {
            "artifact_path": EXAMPLE,
            "pandas_orient": "split",
            "serving_input_path": SERVING_EXAMPLE,
            "type": "dataframe",
        }
    if signature.inputs or signature.outputs:
        about["signature"] = {
            "inputs": column_specs(signature.inputs) if signature.inputs else None,
            "outputs": column_specs(signature.outputs) if signature.outputs else None,
            "params": None,
        }
    return {**files, MLMODEL: _yaml(about)}


def column_specs(columns: tuple[SignatureColumn, ...]) -> str:
    """Columns as MLflow's JSON text of a schema. A column without a name is the only one of its kind."""
    return json.dumps(
        [
            {"type": column.type, **({"name": column.name} if column.name else {}), "required": column.required}
            for column in columns
        ],
        ensure_ascii=False,
    )


def read_signature(mlmodel: bytes) -> Signature:
    """The signature in an MLmodel file, ours or anyone's. Empty where there is none, or none that is of columns."""
    try:
        found = yaml.load(mlmodel, Loader=_Loader)  # noqa: S506 - either name is a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return Signature()
    texts = found.get("signature") if isinstance(found, dict) else None
    if not isinstance(texts, dict):
        return Signature()
    return Signature(inputs=_columns(texts.get("inputs")), outputs=_columns(texts.get("outputs")))


def skops_file(mlmodel: bytes) -> str | None:
    """The name of the model's file, where an MLmodel file says that it is scikit-learn's, stored by skops."""
    try:
        found = yaml.load(mlmodel, Loader=_Loader)  # noqa: S506 - either name is a safe loader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
        return None
    flavors = found.get("flavors") if isinstance(found, dict) else None
    sklearn = flavors.get("sklearn") if isinstance(flavors, dict) else None
    if not isinstance(sklearn, dict) or sklearn.get("serialization_format") != "skops":
        return None
    return str(sklearn.get("pickled_model") or MODEL_FILE)


def _columns(text: object) -> tuple[SignatureColumn, ...]:
    try:
        found = json.loads(text) if isinstance(text, str) else []
    except (ValueError, RecursionError):
        return ()
    if not isinstance(found, list):
        return ()
    return tuple(
        SignatureColumn(
            name=str(one.get("name", "")), type=str(one.get("type", "")), required=bool(one.get("required", True))
        )
        for one in found
        if isinstance(one, dict)
    )


def _requirements(versions: Mapping[str, str]) -> list[str]:
    pinned = {name: f"{name}=={version}" for name, version in versions.items() if name not in _NOT_REQUIRED}
    return [f"mlflow=={MLFLOW_VERSION}", *sorted({"scikit-learn": "scikit-learn", "skops": "skops", **pinned}.values())]


def _examples(input_example: bytes | None) -> dict[str, bytes]:
    if input_example is None:
        return {}
    try:
        found = json.loads(input_example)
    except ValueError as exc:
        raise InvalidRequest.of("input_example", "is no JSON") from exc
    if not isinstance(found, dict) or not {"columns", "data"} <= found.keys():
        raise InvalidRequest.of("input_example", "must be an object with columns and data")
    return {EXAMPLE: input_example, SERVING_EXAMPLE: json.dumps({"dataframe_split": found}, indent=2).encode()}


def _yaml(content: dict[str, Any]) -> bytes:
    text = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, default_flow_style=False, sort_keys=False)
    return str(text).encode()
