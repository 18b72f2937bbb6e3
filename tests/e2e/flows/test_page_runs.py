"""What the page relies on of Prefect's server: one run of a key, found by it, read, and never begun once cancelled."""

from __future__ import annotations

import httpx
import pytest
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL

from core.runtime.page_actions import PREVIEW_ARTIFACT
from flows.common.own_api import OwnApi
from flows.deployment.preview import preview
from flows.page.prefect_runs import PrefectRuns
from models.failures import NotFoundError
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = pytest.mark.flow
PARAMETERS = {"environment": "test", "action": "start"}


class ServerApi(OwnApi):
    """The API of a server in another process."""

    def __init__(self) -> None:
        user, _, password = PREFECT_API_AUTH_STRING.value().partition(":")
        self._client = httpx.AsyncClient(base_url=PREFECT_API_URL.value(), auth=(user, password), timeout=120)


@pytest.fixture
async def deployment() -> str:
    made = await preview.ato_deployment(name="page", parameters={"environment": "test"})
    return str(await made.aapply())


async def test_a_key_makes_one_run_that_is_found_by_it(deployment: str) -> None:
    runs = PrefectRuns(ServerApi())
    found = await runs.deployment("preview", "page")
    before = await runs.id_of("key of a form")

    first = await runs.create(deployment, PARAMETERS, "key of a form", "Start test")
    second = await runs.create(deployment, PARAMETERS | {"with_data": True}, "key of a form", "again")

    run = await runs.read(first)
    assert found is not None
    assert (found["id"], found["work_pool_name"]) == (deployment, None)
    assert (before, await runs.id_of("key of a form")) == ("", first)
    assert second == first
    assert (run["deployment_id"], run["name"]) == (deployment, "Start test")
    assert run["parameters"] == PARAMETERS
    assert run["state"]["type"] == "SCHEDULED"
    assert await runs.artifact(first, PREVIEW_ARTIFACT) is None

    await runs.cancel(first)
    assert (await runs.read(first))["state"]["type"] == "CANCELLED"


async def test_what_is_not_there_is_reported_as_missing(deployment: str) -> None:
    runs = PrefectRuns(ServerApi())

    assert await runs.deployment("preview", "nothing") is None
    assert not await runs.is_pool_ready("nothing")
    with pytest.raises(NotFoundError):
        await runs.read("00000000-0000-0000-0000-000000000000")
