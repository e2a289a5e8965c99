"""A tenant's namespace with its search attributes: made, kept true, and removed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import stamina
from google.protobuf.duration_pb2 import Duration
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.namespace.v1 import UpdateNamespaceInfo
from temporalio.api.operatorservice.v1 import (
    AddSearchAttributesRequest,
    DeleteNamespaceRequest,
    ListSearchAttributesRequest,
)
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    RegisterNamespaceRequest,
    UpdateNamespaceRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from mlops import errors, names
from mlops.gateway.scheduler.translate import AWAY, translated
from mlops.tenants.tenant import Tenant

ATTRIBUTES = {
    **dict.fromkeys(names.KEYWORD_ATTRIBUTES, IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD),
    names.ATTRIBUTE_LABELS: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
}


class NamespaceProvider:
    """Gives each tenant its namespace. Workers find it by the mark in its data, within their polling interval."""

    name = "temporal"

    def __init__(self, client: Client, *, retention: timedelta) -> None:
        self._client = client
        self._retention = retention

    async def ensure(self, tenant: Tenant) -> None:
        """Registers the namespace and its search attributes, or brings them up to date."""
        with translated("tenant", tenant.slug):
            # The mark comes last: a worker that sees it finds everything in place.
            await self._register(tenant.slug)
            await self._add_attributes(tenant.slug)
            await self._mark(tenant)

    async def remove(self, tenant: str) -> None:
        """Deletes the namespace with every workflow in it; one that is gone already is fine."""
        with translated("tenant", tenant):
            try:
                await self._client.operator_service.delete_namespace(
                    DeleteNamespaceRequest(namespace=names.namespace(tenant))
                )
            except RPCError as error:
                # The operator service says INVALID_ARGUMENT of a namespace that is not there.
                if error.status is not RPCStatusCode.NOT_FOUND and "is not found" not in error.message:
                    raise

    async def _register(self, tenant: str) -> None:
        request = RegisterNamespaceRequest(
            namespace=names.namespace(tenant),
            description=_description(tenant),
            workflow_execution_retention_period=_duration(self._retention),
        )
        # The server allows a burst of twenty, and then says so.
        async for attempt in _retry(AWAY):
            with attempt:
                try:
                    await self._client.workflow_service.register_namespace(request)
                except RPCError as error:
                    if error.status is not RPCStatusCode.ALREADY_EXISTS:
                        raise
                    await self._check_ours(tenant)

    async def _check_ours(self, tenant: str) -> None:
        """A cluster may be shared: a namespace of somebody else's is not taken over, and so never deleted."""
        found = await self._client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=names.namespace(tenant))
        )
        if found.namespace_info.description != _description(tenant):
            raise errors.FailedPrecondition(
                f"The Temporal namespace {names.namespace(tenant)!r} exists and is not this platform's; take another slug"
            )

    async def _add_attributes(self, tenant: str) -> None:
        namespace = names.namespace(tenant)
        # A new namespace takes a moment to be visible.
        async for attempt in _retry((*AWAY, RPCStatusCode.NOT_FOUND, RPCStatusCode.INVALID_ARGUMENT)):
            with attempt:
                known = await self._client.operator_service.list_search_attributes(
                    ListSearchAttributesRequest(namespace=namespace)
                )
                missing = {name: kind for name, kind in ATTRIBUTES.items() if name not in known.custom_attributes}
                if missing:
                    await self._client.operator_service.add_search_attributes(
                        AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
                    )

    async def _mark(self, tenant: Tenant) -> None:
        namespace = names.namespace(tenant.slug)
        wanted = {names.NAMESPACE_MARK: "true", names.NAMESPACE_WEIGHT: repr(tenant.weight)}
        async for attempt in _retry((*AWAY, RPCStatusCode.NOT_FOUND)):
            with attempt:
                found = await self._client.workflow_service.describe_namespace(
                    DescribeNamespaceRequest(namespace=namespace)
                )
                if all(found.namespace_info.data.get(key) == value for key, value in wanted.items()):
                    return
                await self._client.workflow_service.update_namespace(
                    UpdateNamespaceRequest(namespace=namespace, update_info=UpdateNamespaceInfo(data=wanted))
                )


def _retry(statuses: tuple[RPCStatusCode, ...]) -> AsyncIterator[stamina.Attempt]:
    return stamina.retry_context(
        on=lambda error: isinstance(error, RPCError) and error.status in statuses,
        attempts=None,
        timeout=30.0,
        wait_initial=0.05,
        wait_max=2.0,
    )


def _description(tenant: str) -> str:
    """What marks a namespace as ours from its first moment."""
    return f"mlops tenant {tenant}"


def _duration(value: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(value)
    return duration
