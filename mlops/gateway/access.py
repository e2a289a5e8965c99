"""Who may call what: the one table, and the check."""

from __future__ import annotations

from mlops.errors import PermissionDenied
from mlops.tenants.tenant import Principal, Role

# The least role that each RPC takes. RPCs of an administrator are open to no one else.
LEAST_ROLE: dict[str, Role] = {
    "/mlops.v1.Jobs/SubmitTraining": Role.SUBMITTER,
    "/mlops.v1.Jobs/ValidateTraining": Role.VIEWER,
    "/mlops.v1.Jobs/SubmitBatchInference": Role.SUBMITTER,
    "/mlops.v1.Jobs/ValidateBatchInference": Role.VIEWER,
    "/mlops.v1.Jobs/RetryJob": Role.SUBMITTER,
    "/mlops.v1.Jobs/DownloadResult": Role.VIEWER,
    "/mlops.v1.Jobs/GetJob": Role.VIEWER,
    "/mlops.v1.Jobs/ListJobs": Role.VIEWER,
    "/mlops.v1.Jobs/WatchJob": Role.VIEWER,
    "/mlops.v1.Jobs/CancelJob": Role.SUBMITTER,
    "/mlops.v1.Jobs/DeleteJob": Role.SUBMITTER,
    "/mlops.v1.Datasets/UploadDataset": Role.SUBMITTER,
    "/mlops.v1.Datasets/RegisterDataset": Role.SUBMITTER,
    "/mlops.v1.Datasets/GetDataset": Role.VIEWER,
    "/mlops.v1.Datasets/ListDatasets": Role.VIEWER,
    "/mlops.v1.Datasets/PreviewDataset": Role.VIEWER,
    "/mlops.v1.Datasets/DeleteDataset": Role.SUBMITTER,
    "/mlops.v1.Models/ListModels": Role.VIEWER,
    "/mlops.v1.Models/GetModel": Role.VIEWER,
    "/mlops.v1.Models/ListModelVersions": Role.VIEWER,
    "/mlops.v1.Models/GetModelVersion": Role.VIEWER,
    "/mlops.v1.Models/SetModelAlias": Role.SUBMITTER,
    "/mlops.v1.Models/DeleteModelAlias": Role.SUBMITTER,
    "/mlops.v1.Models/Predict": Role.VIEWER,
    "/mlops.v1.Models/GetTraffic": Role.VIEWER,
    "/mlops.v1.Models/SetTraffic": Role.SUBMITTER,
    "/mlops.v1.Models/GetServingFigures": Role.VIEWER,
    "/inference.GRPCInferenceService/ServerLive": Role.VIEWER,
    "/inference.GRPCInferenceService/ServerReady": Role.VIEWER,
    "/inference.GRPCInferenceService/ModelReady": Role.VIEWER,
    "/inference.GRPCInferenceService/ServerMetadata": Role.VIEWER,
    "/inference.GRPCInferenceService/ModelMetadata": Role.VIEWER,
    "/inference.GRPCInferenceService/ModelInfer": Role.VIEWER,
    "/mlops.v1.Tenants/CreateTenant": Role.ADMINISTRATOR,
    "/mlops.v1.Tenants/GetTenant": Role.ADMINISTRATOR,
    "/mlops.v1.Tenants/ListTenants": Role.ADMINISTRATOR,
    "/mlops.v1.Tenants/UpdateTenant": Role.ADMINISTRATOR,
    "/mlops.v1.Tenants/DeleteTenant": Role.ADMINISTRATOR,
    "/mlops.v1.Tenants/CreateApiKey": Role.OWNER,
    "/mlops.v1.Tenants/ListApiKeys": Role.OWNER,
    "/mlops.v1.Tenants/RevokeApiKey": Role.OWNER,
}

# Administrators belong to no tenant: they are let into this service only.
ADMINISTRATORS_SERVICE = "/mlops.v1.Tenants/"

_RANK = {Role.VIEWER: 0, Role.SUBMITTER: 1, Role.OWNER: 2}


def authorise(method: str, principal: Principal) -> None:
    """Raises PermissionDenied unless the key's role allows the call. `method` is /package.Service/Method."""
    least = LEAST_ROLE[method]
    if principal.role is Role.ADMINISTRATOR:
        if not method.startswith(ADMINISTRATORS_SERVICE):
            raise no_tenant()
    elif least is Role.ADMINISTRATOR or _RANK[principal.role] < _RANK[least]:
        raise PermissionDenied(
            f"{method.rpartition('/')[2]} takes the role {least}, this key has {principal.role}",
            needed=least.value,
            role=principal.role.value,
        )


def tenant_of(principal: Principal) -> str:
    """The tenant in whose name a call is made. Raises PermissionDenied for a key that belongs to none."""
    if principal.tenant is None:
        raise no_tenant()
    return principal.tenant


def no_tenant() -> PermissionDenied:
    """What an administrator is told who calls a tenant's service."""
    return PermissionDenied("this key belongs to no tenant: jobs, datasets and models take a key of a tenant")
