from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlops.errors import FailedPrecondition, InvalidRequest
from mlops.jobs.model import Signature, SignatureColumn
from mlops.tracking.artifacts import proxied
from mlops.tracking.credentials import Account, service_password
from mlops.tracking.mlmodel import model_directory, read_signature

EXAMPLE = b'{"columns": ["a", "b"], "data": [[1.0, "x"]]}'
VERSIONS = {"python": "3.11.7", "scikit-learn": "1.9.1", "numpy": "2.3.0", "mlops": "0.1.0"}
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def files(
    *, signature: Signature | None = None, input_example: bytes | None = EXAMPLE, trusted: tuple[str, ...] = ()
) -> dict[str, bytes]:
    return model_directory(
        model_id="m-1",
        run_id="r-1",
        artifact_uri="mlflow-artifacts:/workspaces/a/1/models/m-1/artifacts",
        signature=signature or Signature(),
        input_example=input_example,
        trusted_types=trusted,
        versions=VERSIONS,
        model_bytes=1000,
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
    )


def mlmodel(made: dict[str, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(made["MLmodel"])
    return found


def test_the_flavors_name_the_skops_file_and_the_types_that_its_reader_must_trust() -> None:
    made = mlmodel(files(trusted=("sklearn.tree._tree.Tree", "numpy.dtype")))
    assert made["flavors"]["sklearn"]["serialization_format"] == "skops"
    assert made["flavors"]["sklearn"]["pickled_model"] == "model.skops"
    assert made["flavors"]["sklearn"]["skops_trusted_types"] == ["numpy.dtype", "sklearn.tree._tree.Tree"]
    assert made["flavors"]["python_function"]["loader_module"] == "mlflow.sklearn"
    assert made["flavors"]["python_function"]["python_version"] == "3.11.7"


def test_the_requirements_pin_what_trained_the_model_and_leave_out_what_no_registry_has() -> None:
    lines = files()["requirements.txt"].decode().splitlines()
    assert "scikit-learn==1.9.1" in lines
    assert "numpy==2.3.0" in lines
    assert "skops" in lines
    assert not any(line.startswith(("python", "mlops")) for line in lines)


def test_the_example_is_there_for_people_and_for_serving() -> None:
    made = files()
    assert made["input_example.json"] == EXAMPLE
    assert json.loads(made["serving_input_example.json"]) == {"dataframe_split": json.loads(EXAMPLE)}
    assert mlmodel(made)["saved_input_example_info"]["artifact_path"] == "input_example.json"


def test_a_model_without_an_example_or_a_signature_says_nothing_of_them() -> None:
    made = files(input_example=None)
    assert "input_example.json" not in made
    assert not {"saved_input_example_info", "signature"} & mlmodel(made).keys()


@pytest.mark.parametrize("example", [b"\xff\xfe", b"{", b"[]", b'{"columns": []}'])
def test_an_example_that_is_no_table_is_refused(example: bytes) -> None:
    with pytest.raises(InvalidRequest, match="input_example"):
        files(input_example=example)


@given(
    st.lists(st.builds(SignatureColumn, name=TEXTS, type=st.sampled_from(["double", "string"])), max_size=5),
    st.lists(st.builds(SignatureColumn, name=TEXTS, type=st.just("long"), required=st.booleans()), max_size=3),
)
def test_a_signature_survives_the_file(inputs: list[SignatureColumn], outputs: list[SignatureColumn]) -> None:
    signature = Signature(inputs=tuple(inputs), outputs=tuple(outputs))
    assert read_signature(files(signature=signature)["MLmodel"]) == signature


@given(st.binary(max_size=200))
def test_any_file_at_all_reads_as_some_signature(content: bytes) -> None:
    assert isinstance(read_signature(content), Signature)


@pytest.mark.parametrize(
    "content",
    [b"signature: {inputs: 3}", b"signature: {inputs: 'nonsense'}", b"signature: {inputs: '{}'}", b"- 1", b"a: b: c"],
)
def test_a_strange_signature_counts_as_none(content: bytes) -> None:
    assert read_signature(content) == Signature()


def test_no_tag_of_a_foreign_mlmodel_builds_an_object() -> None:
    assert read_signature(b"signature: !!python/object/apply:os.getcwd []") == Signature()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../other", "a/../../b", "..", "a\\b"])
def test_an_artifact_cannot_be_put_outside_its_run(path: str) -> None:
    with pytest.raises(InvalidRequest, match="path_in_run"):
        proxied("mlflow-artifacts:/workspaces/a/1/r/artifacts", path)


def test_an_artifacts_path_is_quoted() -> None:
    path = proxied("mlflow-artifacts:/workspaces/a/1/r/artifacts", "plots/50% off?.png")
    assert path == "workspaces/a/1/r/artifacts/plots/50%25%20off%3F.png"


def test_a_server_that_does_not_proxy_artifacts_is_named_as_the_problem() -> None:
    with pytest.raises(FailedPrecondition, match="serve-artifacts"):
        proxied("s3://bucket/1/r/artifacts", "plots/roc.png")


def test_passwords_differ_by_tenant_and_by_secret_and_show_in_no_repr() -> None:
    made = {service_password(secret, tenant) for secret in ("s1", "s2") for tenant in ("a", "b")}
    assert len(made) == 4
    account = Account.of_tenant("s1", "a")
    assert account.password not in repr(account)
