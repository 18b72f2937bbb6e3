"""What two kinds of stranger can do to the server of `roas`: a web page of another origin, in a browser whose user is
signed in there, and a program that lacks the password."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Page, expect

from flows.deployment.startup import startup
from tests.e2e.flows.foreign_page import attack, attack_rebound, rebound_chromium
from tests.e2e.flows.test_server_security import end_of
from tests.support import patient_http
from tests.support.prefect_server import ask, own_server, server_variables

pytestmark = pytest.mark.flow


@dataclass(frozen=True)
class PageTarget:
    """A server with its UI and one deployment, whose id the attacker is given."""

    url: str
    deployment: str

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def owner_finds(self, kind: str) -> list[str]:
        auth_string = server_variables()["PREFECT_API_AUTH_STRING"]
        return [one["id"] for one in ask(f"{self.url}/api", auth_string, f"{kind}/filter", {})]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageTarget]:
    async def deploy() -> str:
        return str(await (await startup.ato_deployment(name="attacked")).aapply())

    with own_server(tmp_path_factory.mktemp("prefect") / "home", with_ui=True) as api:
        yield PageTarget(api.removesuffix("/api"), asyncio.run(deploy()))


@pytest.fixture
def page(target: PageTarget) -> Iterator[Page]:
    """A page of a browser that has signed in."""
    with rebound_chromium() as browser:
        page = browser.new_page()
        page.goto(target.url)
        page.locator("input[type=password]").fill(server_variables()["PREFECT_API_AUTH_STRING"])
        page.get_by_role("button", name="Login").click()
        expect(page.get_by_role("button", name="Deployments")).to_be_visible(timeout=60_000)
        yield page


@pytest.mark.campaign
def test_a_page_of_another_origin_reads_nothing_and_begins_nothing(
    target: PageTarget, page: Page, tmp_path: Path
) -> None:
    file, runs = str(tmp_path / "compose.yaml"), target.owner_finds("flow_runs")

    by_origin = attack(page, target.url, target.deployment, file)
    by_name = attack_rebound(page, target.port, target.deployment, file)

    # A page may send these without asking first, and does not see the response.
    assert {by_origin.pop(name) for name in ("POST of text", "POST without a type")} == {"sent, no answer"}
    assert {name: text for name, text in by_origin.items() if not text.startswith("refused")} == {}
    assert by_name.pop("socket") == "refused"
    assert {name: text for name, text in by_name.items() if not text.startswith("403 This server answers at ")} == {}
    assert target.owner_finds("deployments") == [target.deployment]
    assert target.owner_finds("flow_runs") == runs


PLANT = "prefect.deployments.steps.run_shell_script"


@pytest.mark.campaign(seconds=15)
def test_only_who_has_the_password_can_give_a_deployment_a_shell_command(target: PageTarget, tmp_path: Path) -> None:
    planted, runs = tmp_path / "planted", target.owner_finds("flow_runs")
    change = {"pull_steps": [{PLANT: {"script": f"touch {planted}"}}], "entrypoint": "evil.py:startup"}
    auth_string = server_variables()["PREFECT_API_AUTH_STRING"]
    user, _, password = auth_string.partition(":")
    api = f"{target.url}/api"
    made = {"name": "evil", "flow_id": ask(api, auth_string, f"deployments/{target.deployment}")["flow_id"]}

    def refused(**how: Any) -> tuple[int, int, int]:
        with httpx.Client(base_url=f"{api}/", **how) as client:
            return (
                client.patch(f"deployments/{target.deployment}", json=change).status_code,
                client.post("deployments/", json=made | change).status_code,
                client.post(f"deployments/{target.deployment}/create_flow_run", json={}).status_code,
            )

    assert set(refused()) <= {401, 403}
    assert set(refused(auth=(user, "guess"))) <= {401, 403}
    assert set(refused(auth=(user, password), headers={"Origin": "http://attacker.example"})) == {403}
    assert not ask(api, auth_string, f"deployments/{target.deployment}")["pull_steps"]
    assert target.owner_finds("deployments") == [target.deployment]
    assert target.owner_finds("flow_runs") == runs

    # The password is worth a shell of the user who serves: the engine has no lesser right to give.
    token = patient_http.get(f"{api}/csrf-token", params={"client": "owner"}, auth=(user, password)).json()["token"]
    headers = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "owner"}
    with httpx.Client(base_url=f"{api}/", auth=(user, password), headers=headers) as owner:
        changed = owner.patch(f"deployments/{target.deployment}", json={"pull_steps": change["pull_steps"]})
    asked = {"parameters": {"environment": "nowhere"}}
    run = ask(api, auth_string, f"deployments/{target.deployment}/create_flow_run", asked)["id"]
    assert changed.status_code == 204
    assert not planted.exists()
    asyncio.run(end_of(UUID(run)))
    assert planted.exists()
