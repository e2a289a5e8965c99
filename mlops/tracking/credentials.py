"""Who we are to MLflow: the tenant's service account, or the administrator."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field

from mlops import names


def service_password(secret_key: str, tenant: str) -> str:
    """The password of the tenant's service account, derived from the platform's secret, so that none is stored."""
    digest = hmac.new(secret_key.encode(), f"mlflow:{tenant}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@dataclass(frozen=True, kw_only=True)
class Account:
    """Credentials, and the workspace that they are used in (None for calls about the server itself)."""

    user: str
    password: str = field(repr=False)
    workspace: str | None

    @classmethod
    def of_tenant(cls, secret_key: str, tenant: str) -> Account:
        """The tenant's service account in the tenant's workspace."""
        return cls(
            user=names.service_account(tenant),
            password=service_password(secret_key, tenant),
            workspace=names.workspace(tenant),
        )

    def headers(self) -> dict[str, str]:
        """What every request carries. Nothing of it is ever kept in the connection."""
        basic = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        if self.workspace is not None:
            headers["X-MLFLOW-WORKSPACE"] = self.workspace
        return headers
