"""Who may call what."""

from __future__ import annotations

import pytest

from mlops.errors import PermissionDenied
from mlops.gateway.access import LEAST_ROLE, authorise, tenant_of
from mlops.tenants.tenant import Principal, Role
from mlops.v1 import datasets_pb2, jobs_pb2, models_pb2, open_inference_pb2, tenants_pb2

SERVICES = [
    service
    for file in (datasets_pb2, jobs_pb2, models_pb2, open_inference_pb2, tenants_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]
METHODS = sorted(f"/{service.full_name}/{method.name}" for service in SERVICES for method in service.methods)
RANKS = [Role.VIEWER, Role.SUBMITTER, Role.OWNER]


def caller(role: Role) -> Principal:
    tenant = None if role is Role.ADMINISTRATOR else "acme"
    return Principal(key_id="k", name="someone", role=role, tenant=tenant)


def allowed(method: str, role: Role) -> bool:
    try:
        authorise(method, caller(role))
    except PermissionDenied:
        return False
    return True


def test_every_rpc_is_in_the_table_and_nothing_else() -> None:
    assert sorted(LEAST_ROLE) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_a_role_includes_the_ones_before_it(method: str) -> None:
    least = LEAST_ROLE[method]
    expected = [False] * 3 if least is Role.ADMINISTRATOR else [RANKS.index(least) <= i for i in range(3)]
    assert [allowed(method, role) for role in RANKS] == expected


@pytest.mark.parametrize("method", METHODS)
def test_administrators_are_let_into_the_tenants_service_only(method: str) -> None:
    assert allowed(method, Role.ADMINISTRATOR) == method.startswith("/mlops.v1.Tenants/")


def test_a_viewer_changes_nothing() -> None:
    changing = ("Submit", "Cancel", "Delete", "Upload", "Register", "Create", "Update", "Revoke", "Set")
    for method in METHODS:
        if method.rpartition("/")[2].startswith(changing):
            assert not allowed(method, Role.VIEWER), method


def test_a_refusal_says_what_is_needed() -> None:
    with pytest.raises(PermissionDenied, match="SubmitTraining takes the role submitter, this key has viewer"):
        authorise("/mlops.v1.Jobs/SubmitTraining", caller(Role.VIEWER))


def test_a_key_of_no_tenant_has_no_tenant() -> None:
    assert tenant_of(caller(Role.VIEWER)) == "acme"
    with pytest.raises(PermissionDenied, match="this key belongs to no tenant"):
        tenant_of(caller(Role.ADMINISTRATOR))
