"""The Tenants service: administrators', but for the keys of an owner's own tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import Field

from mlops.errors import FailedPrecondition, InvalidRequest, NotFound
from mlops.gateway.ports import SchedulerPort
from mlops.jobs.labels import check_labels
from mlops.jobs.value import Value
from mlops.tenants.keys import KeyStore
from mlops.tenants.provisioning import Provisioning
from mlops.tenants.store import TenantStore
from mlops.tenants.tenant import NewTenant, Principal, Quota, Role, TenantState
from mlops.v1 import tenants_pb2 as pb
from mlops.wire.convert import build, parse


class TenantChange(Value):
    """What to change of a tenant; None stays as it is, and so do limits of the quota that are left out."""

    slug: str
    display_name: str | None = None
    quota: Quota | None = None
    weight: Annotated[float | None, Field(gt=0, le=1000)] = None


class NewKey(Value):
    """A key to create."""

    tenant: str | None = None
    role: Role
    name: str
    expires_at: datetime | None = None


class Tenants:
    """Serves mlops.v1.Tenants."""

    def __init__(
        self, *, tenants: TenantStore, keys: KeyStore, provisioning: Provisioning, scheduler: SchedulerPort
    ) -> None:
        self._tenants = tenants
        self._keys = keys
        self._provisioning = provisioning
        self._scheduler = scheduler

    async def create_tenant(self, caller: Principal, request: pb.CreateTenantRequest) -> pb.CreateTenantResponse:
        """Creates a tenant, or goes on with it."""
        new = parse(request, NewTenant)
        if wrong := check_labels(new.labels, field="labels"):
            raise InvalidRequest(f"{len(wrong)} labels break a rule", violations=wrong)
        tenant, key = await self._provisioning.create(new)
        response = pb.CreateTenantResponse(tenant=build(pb.Tenant, tenant))
        if key is not None:
            response.key.CopyFrom(build(pb.ApiKey, key.key))
            response.secret = key.secret
        return response

    async def get_tenant(self, caller: Principal, request: pb.GetTenantRequest) -> pb.GetTenantResponse:
        """One tenant."""
        tenant = await self._tenants.get(request.slug)
        return pb.GetTenantResponse(tenant=build(pb.Tenant, tenant))

    async def list_tenants(self, caller: Principal, request: pb.ListTenantsRequest) -> pb.ListTenantsResponse:
        """One page of tenants."""
        page, token = await self._tenants.list(request.page_size, request.page_token)
        return pb.ListTenantsResponse(tenants=[build(pb.Tenant, tenant) for tenant in page], next_page_token=token)

    async def update_tenant(self, caller: Principal, request: pb.UpdateTenantRequest) -> pb.UpdateTenantResponse:
        """Changes what is given."""
        change = parse(request, TenantChange)
        limits = change.quota.model_dump(include=change.quota.model_fields_set) if change.quota else None
        tenant = await self._provisioning.update(
            change.slug, display_name=change.display_name, quota=limits, weight=change.weight
        )
        return pb.UpdateTenantResponse(tenant=build(pb.Tenant, tenant))

    async def delete_tenant(self, caller: Principal, request: pb.DeleteTenantRequest) -> pb.DeleteTenantResponse:
        """Deletes a tenant that has no active jobs, or is to go with them."""
        tenant = await self._tenants.get(request.slug)
        # One that is being set up or taken down has no jobs, and maybe no place to look for them.
        if not request.force and tenant.state is TenantState.ACTIVE:
            active = await self._scheduler.active_jobs(tenant.slug)
            if active:
                raise FailedPrecondition(f"tenant {tenant.slug!r} has {active} active jobs; set force to delete them")
        await self._provisioning.delete(tenant.slug)
        return pb.DeleteTenantResponse()

    async def create_api_key(self, caller: Principal, request: pb.CreateApiKeyRequest) -> pb.CreateApiKeyResponse:
        """Creates a key."""
        new = parse(request, NewKey)
        tenant = _scope(caller, new.tenant)
        issued = await self._keys.issue(tenant, role=new.role, name=new.name, expires_at=new.expires_at)
        return pb.CreateApiKeyResponse(key=build(pb.ApiKey, issued.key), secret=issued.secret)

    async def list_api_keys(self, caller: Principal, request: pb.ListApiKeysRequest) -> pb.ListApiKeysResponse:
        """One page of keys."""
        page, token = await self._keys.list(
            _scope(caller, request.tenant if request.HasField("tenant") else None),
            include_inactive=request.include_inactive,
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListApiKeysResponse(keys=[build(pb.ApiKey, key) for key in page], next_page_token=token)

    async def revoke_api_key(self, caller: Principal, request: pb.RevokeApiKeyRequest) -> pb.RevokeApiKeyResponse:
        """Ends a key."""
        await self._keys.revoke(request.id, tenant=_scope(caller, None))
        return pb.RevokeApiKeyResponse()


def _scope(caller: Principal, tenant: str | None) -> str | None:
    """Whose keys the call is about. For an owner, other tenants do not exist."""
    if caller.role is Role.ADMINISTRATOR:
        return tenant
    if tenant is not None and tenant != caller.tenant:
        raise NotFound.of("tenant", tenant)
    return caller.tenant
