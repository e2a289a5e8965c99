"""Registered models and their versions in MLflow.

Whether a model exists is asked by a search, never by a call that names it: MLflow's permission check remembers
the answer for a name that is not there, for an hour by default, and refuses that name to the one who then makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mlops import names
from mlops.errors import AlreadyExists, InvalidRequest, NotFound
from mlops.jobs.model import Model
from mlops.jobs.pages import Listing, invalid_page_token
from mlops.jobs.tracking import LoggedModel
from mlops.tracking.claim import together
from mlops.tracking.credentials import Account
from mlops.tracking.rest import API_2, MlflowRest
from mlops.tracking.runs import MILLISECONDS, TAG_CHARS, pairs, tagged, untied

MODELS = f"{API_2}/registered-models"
VERSIONS = f"{API_2}/model-versions"


class Registry:
    """Registered models of all tenants: each call names its account."""

    def __init__(self, rest: MlflowRest) -> None:
        self._rest = rest

    async def register(
        self,
        account: Account,
        *,
        model_name: str,
        model: LoggedModel,
        run_id: str,
        job_id: str,
        tags: Mapping[str, str],
    ) -> int:
        """As Tracking.register_version.

        The server numbers versions in the order in which they are made: of two that race, the later one sees
        the earlier one when it looks again, and takes back its own.
        """
        found, model_exists = await together(self._of_job(account, model_name, job_id), self._find(account, model_name))
        if found:
            return int(found[0])
        told = {**tags, names.TAG_JOB: job_id}
        body = {
            "name": model_name,
            "source": model.uri,
            "model_id": model.model_id,
            "run_id": run_id,
            "tags": pairs(told, TAG_CHARS),
        }
        about = ("model", model_name)
        if not model_exists:
            await self._create_model(account, model_name, job_id)
        made = await self._rest.write(account, "POST", f"{VERSIONS}/create", body, about=about)
        mine = int(made["model_version"]["version"])
        first = min([*await self._of_job(account, model_name, job_id), mine])
        if first != mine:
            await self._delete_version(account, model_name, mine)
        return first

    async def withdraw(self, account: Account, *, model_name: str, job_id: str) -> None:
        """As Tracking.delete_version.

        An empty registered model is renamed before it is deleted. MLflow deletes a model with all versions that
        it has by then: another job's version, made between our look and the deletion, would go with it. Under
        the other name nobody adds to it, so that what is found in it then is all there will ever be.
        """
        about = ("model", model_name)
        for version in await self._of_job(account, model_name, job_id):
            await self._delete_version(account, model_name, version)
        aside = names.withdrawn_model(model_name, job_id)
        model, left_aside = await together(self._find(account, model_name), self._find(account, aside))
        if (
            model
            and untied(model.get("tags")).get(names.TAG_JOB) == job_id
            and not await self._any_version(account, model_name)
        ):
            body = {"name": model_name, "new_name": aside}
            await self._rest.write(account, "POST", f"{MODELS}/rename", body, about=about)
        elif not left_aside:
            return
        if await self._any_version(account, aside):
            body = {"name": aside, "new_name": model_name}
            await self._rest.write(account, "POST", f"{MODELS}/rename", body, about=about)
        else:
            await self._rest.write(account, "DELETE", f"{MODELS}/delete", {"name": aside}, about=about)

    async def page(
        self, account: Account, *, name: str, page_size: int, page_token: str
    ) -> tuple[tuple[Model, ...], str]:
        """As Tracking.list_models."""
        listing = Listing.of("models", account=account.user, name=name)
        place = listing.place(page_token, 1)
        prefix = name.removesuffix("*")
        if prefix and not _may_be_a_name(prefix):
            return (), ""
        params: dict[str, Any] = {"max_results": page_size, "order_by": "name ASC"}
        if prefix:
            params["filter"] = f"name LIKE '{prefix}%'" if name.endswith("*") else f"name = '{prefix}'"
        found = await self._search(account, f"{MODELS}/search", params, place)
        models = tuple(
            _model(one)
            for one in found.get("registered_models", ())
            # An underscore in LIKE stands for any character.
            if one["name"].startswith(prefix)
        )
        token = found.get("next_page_token", "")
        return models, listing.token(token) if token else ""

    async def get(self, account: Account, name: str) -> Model:
        """As Tracking.get_model."""
        found = await self._find(account, name) if _may_be_a_name(name) else None
        if found is None:
            raise NotFound.of("model", name)
        return _model(found)

    async def versions(
        self, account: Account, name: str, *, page_size: int, page_token: str
    ) -> tuple[tuple[dict[str, Any], ...], str]:
        """A page of a model's versions as MLflow tells of them, newest first. Raises NotFound."""
        listing = Listing.of("model versions", account=account.user, name=name)
        place = listing.place(page_token, 1)
        if not _may_be_a_name(name):
            raise NotFound.of("model", name)
        params = {"filter": f"name = '{name}'", "max_results": page_size, "order_by": "version_number DESC"}
        found = await self._search(account, f"{VERSIONS}/search", params, place)
        versions = tuple(found.get("model_versions", ()))
        if not versions and place is None:
            await self.get(account, name)
        token = found.get("next_page_token", "")
        return versions, listing.token(token) if token else ""

    async def version(self, account: Account, name: str, which: int | str) -> dict[str, Any]:
        """One version, by number or alias, as MLflow tells of it. Raises NotFound."""
        if isinstance(which, int):
            about, number = ("model version", f"{name}/{which}"), which
        else:
            about, number = ("model version", f"{name}@{which}"), 0
            model = await self._find(account, name) if _may_be_a_name(name) else None
            if model is not None:
                number = _model(model).aliases.get(which, 0)
        if number < 1 or not _may_be_a_name(name):
            raise NotFound.of(*about)
        params = {"filter": f"name = '{name}' AND version_number = {number}", "max_results": 1}
        found = (await self._rest.get(account, f"{VERSIONS}/search", params=params, about=about)).get("model_versions")
        if not found:
            raise NotFound.of(*about)
        version: dict[str, Any] = found[0]
        return version

    async def set_alias(self, account: Account, name: str, alias: str, version: int) -> None:
        """As Tracking.set_alias."""
        await self.version(account, name, version)
        body = {"name": name, "alias": alias, "version": str(version)}
        await self._rest.write(account, "POST", f"{MODELS}/alias", body, about=("model version", f"{name}/{version}"))

    async def delete_alias(self, account: Account, name: str, alias: str) -> None:
        """As Tracking.delete_alias."""
        await self.get(account, name)
        body = {"name": name, "alias": alias}
        await self._rest.write(account, "DELETE", f"{MODELS}/alias", body, about=("model version", f"{name}@{alias}"))

    async def _search(
        self, account: Account, path: str, params: dict[str, Any], place: tuple[str, ...] | None
    ) -> dict[str, Any]:
        if place is not None:
            params["page_token"] = place[0]
        try:
            return await self._rest.get(account, path, params=params, about=("workspace", account.workspace or ""))
        except InvalidRequest as exc:
            if place is None:
                raise
            raise invalid_page_token() from exc

    async def _find(self, account: Account, name: str) -> dict[str, Any] | None:
        params = {"filter": f"name = '{name}'", "max_results": 1}
        found = await self._rest.get(account, f"{MODELS}/search", params=params, about=("model", name))
        models: list[dict[str, Any]] = found.get("registered_models", [])
        return models[0] if models else None

    async def _any_version(self, account: Account, name: str) -> bool:
        params = {"filter": f"name = '{name}'", "max_results": 1}
        found = await self._rest.get(account, f"{VERSIONS}/search", params=params, about=("model", name))
        return bool(found.get("model_versions"))

    async def _of_job(self, account: Account, name: str, job_id: str) -> list[int]:
        if not _may_be_a_name(name):
            raise InvalidRequest.of("model_name", f"{name!r} is no model name")
        params = {"filter": f"name = '{name}' AND {tagged(names.TAG_JOB, job_id)}", "max_results": 100}
        found = await self._rest.get(account, f"{VERSIONS}/search", params=params, about=("model", name))
        return sorted(int(version["version"]) for version in found.get("model_versions", ()))

    async def _create_model(self, account: Account, name: str, job_id: str) -> None:
        body = {"name": name, "tags": pairs({names.TAG_JOB: job_id}, TAG_CHARS)}
        try:
            await self._rest.write(account, "POST", f"{MODELS}/create", body, about=("model", name))
        except AlreadyExists:
            return  # another job of that model was faster

    async def _delete_version(self, account: Account, name: str, version: int) -> None:
        body = {"name": name, "version": str(version)}
        try:
            await self._rest.write(account, "DELETE", f"{VERSIONS}/delete", body, about=("model version", name))
        except NotFound:
            return  # gone already, which is what was wanted


def _may_be_a_name(text: str) -> bool:
    """Whether a registered model could be called so, ours or one that people made; quotes would end a filter."""
    return bool(text) and not set(text) & set("'\"\\/:%")


def _model(found: Mapping[str, Any]) -> Model:
    return Model(
        name=found["name"],
        description=found.get("description", ""),
        created_at=time_of(found["creation_timestamp"]),
        updated_at=time_of(found["last_updated_timestamp"]),
        latest_version=max((int(one["version"]) for one in found.get("latest_versions", ())), default=0),
        aliases={one["alias"]: int(one["version"]) for one in found.get("aliases", ())},
    )


def time_of(milliseconds: int | str) -> datetime:
    """MLflow's milliseconds since 1970 as a time."""
    return datetime.fromtimestamp(int(milliseconds) / MILLISECONDS, UTC)
