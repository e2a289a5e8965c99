"""A tenant's place in MLflow: its workspace, its service account and what that may do."""

from __future__ import annotations

from contextlib import suppress
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from mlops import names
from mlops.errors import AlreadyExists, NotFound
from mlops.tenants.tenant import Tenant
from mlops.tracking.credentials import Account, service_password
from mlops.tracking.rest import API_2, API_3, ARTIFACTS, MlflowRest

# What the service account may do in its workspace: be there, and own every experiment and every model.
PERMISSIONS = (("workspace", "USE"), ("experiment", "MANAGE"), ("registered_model", "MANAGE"))
EVERYTHING = "*"


class MlflowProvider:
    """Sets a tenant up in MLflow and takes it down again; each step looks whether it is done, so both may be repeated."""

    name = "mlflow"

    def __init__(self, url: str, *, admin_user: str, admin_password: str, secret_key: str) -> None:
        self._rest = MlflowRest(url)
        self._secret_key = secret_key
        self._admin_user = admin_user
        self._admin_password = admin_password

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends all connections."""
        await self._rest.close()

    def _admin(self, workspace: str | None = None) -> Account:
        return Account(user=self._admin_user, password=self._admin_password, workspace=workspace)

    async def ensure(self, tenant: Tenant) -> None:
        """Workspace, account, role and assignment exist; the account has the password that the secret gives.

        Raises TrackingUnavailable, and PermissionDenied where the administrator's credentials are wrong.
        """
        workspace, user = names.workspace(tenant.slug), names.service_account(tenant.slug)
        with suppress(AlreadyExists):
            await self._write("POST", f"{API_3}/workspaces", {"name": workspace}, ("workspace", workspace))
        await self._ensure_user(user, service_password(self._secret_key, tenant.slug))
        role = await self._ensure_role(workspace)
        await self._ensure_permissions(role)
        await self._ensure_assigned(user, role["id"])

    async def remove(self, tenant: str) -> None:
        """Nothing of the tenant is left in MLflow: access first, then files, then records.

        The files are those below the workspace's own prefix, which is where the server puts what it proxies.
        An experiment that an administrator gave another artifact location keeps its files there.
        """
        workspace, user = names.workspace(tenant), names.service_account(tenant)
        # What is not found is gone since an earlier try.
        with suppress(NotFound):
            await self._write("DELETE", f"{API_2}/users/delete", {"username": user}, ("user", user))
        with suppress(NotFound):
            # The records go last: without its workspace, no call reaches a file.
            await self._rest.delete(
                self._admin(workspace),
                f"{ARTIFACTS}/{quote(f'workspaces/{workspace}')}",
                about=("workspace", workspace),
            )
            await self._rest.delete(
                self._admin(),
                f"{API_3}/workspaces/{workspace}",
                params={"mode": "CASCADE"},
                about=("workspace", workspace),
            )
        for role in await self._roles(workspace):
            await self._write("DELETE", f"{API_3}/roles/delete", {"role_id": role["id"]}, ("role", role["name"]))

    async def _ensure_user(self, user: str, password: str) -> None:
        body, about = {"username": user, "password": password}, ("user", user)
        try:
            await self._write("POST", f"{API_2}/users/create", body, about)
        except AlreadyExists:
            # The platform's secret may have changed since.
            await self._write("PATCH", f"{API_2}/users/update-password", body, about)

    async def _ensure_role(self, workspace: str) -> dict[str, Any]:
        name = names.SERVICE_ROLE
        body = {"name": name, "workspace": workspace, "description": "The service account of the platform's jobs"}
        try:
            made = await self._write("POST", f"{API_3}/roles/create", body, ("role", name))
        except AlreadyExists:
            return next(role for role in await self._roles(workspace) if role["name"] == name)
        role: dict[str, Any] = made["role"]
        return role

    async def _ensure_permissions(self, role: dict[str, Any]) -> None:
        granted = {
            permission["resource_type"]: permission
            for permission in role.get("permissions", ())
            if permission["resource_pattern"] == EVERYTHING
        }
        for resource, level in PERMISSIONS:
            about = ("role permission", resource)
            found = granted.get(resource)
            if found is None:
                body = {
                    "role_id": role["id"],
                    "resource_type": resource,
                    "resource_pattern": EVERYTHING,
                    "permission": level,
                }
                try:
                    await self._write("POST", f"{API_3}/roles/permissions/add", body, about)
                except AlreadyExists:
                    continue  # the same call, running twice
            elif found["permission"] != level:
                change = {"role_permission_id": found["id"], "permission": level}
                await self._write("PATCH", f"{API_3}/roles/permissions/update", change, about)

    async def _ensure_assigned(self, user: str, role_id: int) -> None:
        try:
            await self._write("POST", f"{API_3}/roles/assign", {"username": user, "role_id": role_id}, ("user", user))
        except AlreadyExists:
            return

    async def _roles(self, workspace: str) -> list[dict[str, Any]]:
        found = await self._rest.get(
            self._admin(), f"{API_3}/roles/list", params={"workspace": workspace}, about=("workspace", workspace)
        )
        roles: list[dict[str, Any]] = found["roles"]
        return roles

    async def _write(self, method: str, path: str, body: dict[str, Any], about: tuple[str, str]) -> dict[str, Any]:
        return await self._rest.write(self._admin(), method, path, body, about=about)
