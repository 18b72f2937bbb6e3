"""`roas sync` on the real engine: a commit is updated to and proven, or everything is as it was, files included."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.deployment.rollback import rollback
from flows.deployment.stop import stop
from flows.deployment.sync import TAKING, sync
from flows.operation.recorder import ROLLING_BACK
from models.failures import GateRefusedError, SourceError, StartFailedError
from models.operations import FOUND, PROVEN, Operation, OperationStatus
from models.records import Release
from models.results import OperationResult
from tasks.deployment.source import source_state
from tasks.reporting.read import read_explanation
from tasks.runtime.clients import find_environment
from tests.e2e.flows.conftest import HEALTH, Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_interruption import kill_at
from tests.support.git_forges import TOKEN, Forge, forge
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.repositories import Origin, new_repository

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WELL = "touch /tmp/well; exec sleep 600"


@pytest.fixture
def shop(tmp_path: Path) -> Origin:
    return new_repository(tmp_path / "served")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Forge]:
    monkeypatch.setenv("STATUS_TOKEN", TOKEN)
    with forge("gitea") as made:
        yield made


def compose(version: str, command: str = WELL, *more: str) -> dict[str, str]:
    """Files of a version: a service that mounts one of them."""
    lines = [
        "services:",
        "  web:",
        "    image: debian:trixie-slim",
        "    pull_policy: never",
        "    init: true",
        f"    command: [sh, -c, '{command}']",
        f"    environment: {{VERSION: '{version}'}}",
        "    volumes: [./site.conf:/site.conf:ro]",
        f"    healthcheck: {HEALTH}",
        *more,
    ]
    return {"deploy/compose.yaml": "\n".join(lines) + "\n", "deploy/site.conf": f"of version {version}\n"}


def declare(place: Place, shop: Origin, server: Forge | None = None, **fields: Any) -> None:  # noqa: F811
    source: dict[str, Any] = {"repository": str(shop.bare), "path": "deploy"} | fields
    if server is not None:
        source |= {"status": server.kind, "status_token_secret": "STATUS_TOKEN", "api": server.url}
        source["status_project"] = "ann/shop"
    declared = {
        "name": "test",
        "project": place.project,
        "source": source,
        "compose_files": ["compose.yaml"],
        "secrets": [{"name": "STATUS_TOKEN"}] if server is not None else [],
        "stabilisation_seconds": 0.5,
        "start_timeout_seconds": 300,
    }
    (place.folder / "test.yaml").write_text(json.dumps(declared))


def of_container(place: Place, what: str, name: str = "web") -> str:  # noqa: F811
    command = ["docker", "inspect", "-f", what, place.container(name)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def mounted(place: Place) -> str:  # noqa: F811
    command = ["docker", "exec", place.container("web"), "cat", "/site.conf"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def releases(place: Place) -> list[Release]:  # noqa: F811
    with place.stores() as stores:
        return stores.releases.latest("test")


def last(place: Place) -> Operation:  # noqa: F811
    with place.stores() as stores:
        return stores.operations.history(environment="test")[0]


def states(server: Forge, revision: str) -> list[str]:
    return [one["state"] for one in server.taken if one["revision"] == revision]


async def unchanged(**how: Any) -> str:
    """The reason of a sync that changes nothing."""
    result = await sync("test", **how)
    assert isinstance(result, OperationResult)
    assert result.deployment_id == ""
    return result.reason


async def test_a_new_commit_is_updated_to_and_its_status_is_success(
    place: Place,  # noqa: F811
    shop: Origin,
    server: Forge,
) -> None:
    first = shop.commit("Open the shop", compose("1"))
    declare(place, shop, server)
    await sync("test")
    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")
    second = shop.commit("Sell tea", compose("2"))

    result = await sync("test")

    assert isinstance(result, OperationResult)
    assert result.success
    assert "VERSION=2" in of_container(place, "{{.Config.Env}}")
    assert mounted(place) == "of version 2"
    assert states(server, first) == ["pending", "success"]
    assert states(server, second) == ["pending", "success"]
    newest = releases(place)[0]
    assert newest.source is not None
    assert (newest.source.revision, newest.source.ref, newest.source.subject) == (second, "main", "Sell tea")
    assert last(place).details["source"]["before"] == first
    assert (await unchanged()).startswith(f"nothing new: {second[:12]}")
    assert states(server, second) == ["pending", "success"]


@pytest.mark.campaign
async def test_a_commit_that_changes_nothing_of_the_application_becomes_a_release(
    place: Place,  # noqa: F811
    shop: Origin,
) -> None:
    shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    await sync("test")
    container = of_container(place, "{{.Id}}")
    second = shop.commit("Explain the shop", {"README.md": "Tea."})

    await sync("test")

    assert of_container(place, "{{.Id}}") == container
    assert [one.source.revision for one in releases(place)[:1] if one.source] == [second]
    assert (await unchanged()).startswith("nothing new")


@pytest.mark.campaign(seconds=15)
async def test_a_bad_commit_is_rolled_back_with_its_files_and_not_taken_again(
    place: Place,  # noqa: F811
    shop: Origin,
    server: Forge,
) -> None:
    first = shop.commit("Open the shop", compose("1"))
    declare(place, shop, server)
    await sync("test")
    bad = shop.commit("Break the shop", compose("2", "echo no licence found; exit 3"))

    with pytest.raises(StartFailedError):
        await sync("test")

    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")
    assert mounted(place) == "of version 1"
    assert states(server, bad) == ["pending", "failure"]
    assert "web" in server.taken[-1]["description"]
    details = last(place).details
    assert details["revision_held_back"] == bad
    assert details["checkout_back_at"] == first
    assert (place.settings.data_dir / "sources/test/current/deploy/site.conf").read_text() == "of version 1\n"
    failed = [one for one in releases(place) if not one.proven]
    assert [one.source.revision for one in failed if one.source] == [bad]
    reason = await unchanged()
    assert f"{bad[:12]} " in reason
    assert "is held back, because it failed in" in reason

    # A commit that repairs it is taken.
    repaired = shop.commit("Repair the shop", compose("3"))
    await sync("test")
    assert "VERSION=3" in of_container(place, "{{.Config.Env}}")
    assert states(server, repaired) == ["pending", "success"]


@pytest.mark.campaign
async def test_a_rollback_pins_the_revision_until_a_user_lifts_it(place: Place, shop: Origin) -> None:  # noqa: F811
    first = shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    await sync("test")
    shop.commit("Sell tea", compose("2"))
    await sync("test")

    await rollback("test")

    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")
    assert mounted(place) == "of version 1"
    assert last(place).details["pinned"] == first
    shop.commit("Sell coffee", compose("3"))
    assert f"test stays at revision {first[:12]}" in await unchanged()
    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")

    await sync("test", unpin=True)

    assert "VERSION=3" in of_container(place, "{{.Config.Env}}")


@pytest.mark.campaign
async def test_a_source_that_cannot_be_fetched_is_an_update_that_failed(place: Place, shop: Origin) -> None:  # noqa: F811
    shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    await sync("test")
    container = of_container(place, "{{.Id}} {{.State.StartedAt}}")
    away = shop.bare.rename(shop.bare.with_name("moved"))

    with pytest.raises(SourceError, match="There is no repository at"):
        await sync("test")

    operation = last(place)
    assert (operation.status, operation.kind) == (OperationStatus.FAILED, "sync")
    assert operation.details["undone"] == "no container was touched"
    assert read_explanation(operation.deployment_id).headline.startswith("There is no repository at")
    with place.stores() as stores:
        (error,) = stores.errors.list_by_deployment(operation.deployment_id)
        assert "There is no repository at" in error.text
    assert of_container(place, "{{.Id}} {{.State.StartedAt}}") == container
    state = await source_state(find_environment("test"))
    assert state.unfetched.startswith("There is no repository at")
    away.rename(shop.bare)
    assert (await unchanged()).startswith("nothing new")
    assert (await source_state(find_environment("test"))).unfetched == ""


@pytest.mark.campaign
async def test_a_changed_checkout_and_rewritten_history_wait_for_a_user(place: Place, shop: Origin) -> None:  # noqa: F811
    shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    await sync("test")
    (place.settings.data_dir / "sources/test/current/deploy/site.conf").write_text("by hand\n")
    shop.write(compose("2"))
    shop.git("add", "-A")
    shop.git("commit", "-q", "--amend", "-m", "Open another shop")
    shop.push()

    with pytest.raises(SourceError, match=r"does not follow .*, which runs"):
        await sync("test")
    with pytest.raises(SourceError, match=r"were changed here: deploy/site\.conf"):
        await sync("test", allow_rewritten=True)
    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")

    await sync("test", allow_rewritten=True, discard_changes=True)

    assert mounted(place) == "of version 2"


async def test_data_inside_of_the_checkout_is_refused_before_anything_runs(place: Place, shop: Origin) -> None:  # noqa: F811
    files = compose("1")
    files["deploy/compose.yaml"] = files["deploy/compose.yaml"].replace("[./site.conf", "[./data:/data, ./site.conf")
    shop.commit("Keep data here", files)
    declare(place, shop)

    with pytest.raises(SourceError, match="web mounts deploy/data, which is not in the repository"):
        await sync("test")

    assert place.containers() == []


async def test_an_environment_that_was_stopped_stays_stopped(place: Place, shop: Origin) -> None:  # noqa: F811
    shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    await sync("test")
    await stop("test")
    shop.commit("Sell tea", compose("2"))

    assert "was stopped on request" in await unchanged()

    assert place.containers(running=True) == []


@pytest.mark.campaign
async def test_a_status_server_that_is_away_fails_no_update_and_gets_it_later(
    place: Place,  # noqa: F811
    shop: Origin,
    server: Forge,
    caplog: pytest.LogCaptureFixture,
) -> None:
    revision = shop.commit("Open the shop", compose("1"))
    declare(place, shop, server)
    server.fails = 100

    await sync("test")

    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")
    assert "was not reported: its server answered with 502" in caplog.text
    server.fails = 0
    await unchanged()
    assert states(server, revision) == ["success"]


def current_file(place: Place) -> str:  # noqa: F811
    """The mounted file of the checkout, which has to be that of the Compose file beside it."""
    deploy = place.settings.data_dir / "sources/test/current/deploy"
    text = (deploy / "site.conf").read_text()
    version = text.removeprefix("of version ").strip()
    assert f"VERSION: '{version}'" in (deploy / "compose.yaml").read_text()
    return version


@pytest.mark.parametrize("step", [(TAKING,), (FOUND,), (PROVEN, "web")], ids=["taking", "found", "proven"])
@pytest.mark.campaign
async def test_a_sync_that_was_killed_goes_on_or_is_done_anew(
    place: Place,  # noqa: F811
    shop: Origin,
    server: Forge,
    step: tuple[str, ...],
) -> None:
    shop.commit("Open the shop", compose("1"))
    declare(place, shop, server)
    await sync("test")
    second = shop.commit("Sell tea", compose("2"))

    operation = kill_at("sync", "after", *step)
    assert current_file(place) in ("1", "2")
    if step[0] == FOUND:
        # Without being taken up the next sync takes the revision again.
        result = await sync("test")
    else:
        result = await sync("test", deployment_id=operation)

    assert isinstance(result, OperationResult)
    assert result.success
    assert "VERSION=2" in of_container(place, "{{.Config.Env}}")
    assert mounted(place) == "of version 2"
    assert current_file(place) == "2"
    assert states(server, second)[-1] == "success"
    assert (await unchanged()).startswith("nothing new")


@pytest.mark.campaign
async def test_a_sync_that_was_killed_during_its_rollback_is_rolled_back(place: Place, shop: Origin) -> None:  # noqa: F811
    shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    await sync("test")
    bad = shop.commit("Break the shop", compose("2", "echo no licence found; exit 3"))

    operation = kill_at("sync", "after", ROLLING_BACK)
    with pytest.raises(StartFailedError):
        await sync("test", deployment_id=operation)

    assert "VERSION=1" in of_container(place, "{{.Config.Env}}")
    assert mounted(place) == "of version 1"
    assert current_file(place) == "1"
    assert f"{bad[:12]} " in await unchanged()


@pytest.mark.campaign
async def test_a_revision_brings_no_judge_of_its_own(place: Place, shop: Origin) -> None:  # noqa: F811
    script = "#!/bin/sh\necho by {}\nexit {}\n"
    lenient = {"deploy/policies/judge.sh": script.format("the revision", 0)}
    shop.write(lenient)
    (shop.copy / "deploy/policies/judge.sh").chmod(0o755)
    shop.commit("Open the shop", compose("1"))
    judge = place.folder / "policies" / "judge.sh"
    judge.parent.mkdir()
    judge.write_text(script.format("the environment", 0))
    judge.chmod(0o755)
    declare(place, shop)
    file = place.folder / "test.yaml"
    gate = {"policies": [{"name": "own", "command": ["./policies/judge.sh"]}]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"gate": gate}))
    await sync("test")
    assert last(place).details["gate"]["outcome"] == "passed"
    judge.write_text(script.format("the environment", 1))
    shop.commit("Sell tea", compose("2"))

    with pytest.raises(GateRefusedError, match="policy own: by the environment"):
        await sync("test")

    assert mounted(place) == "of version 1"


@pytest.mark.campaign
async def test_a_revision_that_the_gate_refuses_changes_neither_checkout_nor_containers(
    place: Place,  # noqa: F811
    shop: Origin,
) -> None:
    shop.commit("Open the shop", compose("1"))
    declare(place, shop)
    file = place.folder / "test.yaml"
    gate = {"policies": [{"name": "no-privileges", "expression": "!service.privileged"}]}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"gate": gate}))
    await sync("test")
    before = of_container(place, "{{.Id}} {{.State.StartedAt}}")
    shop.commit("Ask for everything", compose("2", WELL, "    privileged: true"))

    with pytest.raises(GateRefusedError, match="policy no-privileges: web"):
        await sync("test")

    assert of_container(place, "{{.Id}} {{.State.StartedAt}}") == before
    assert mounted(place) == "of version 1"
    assert "roas sync --override-gate REASON test" in last(place).details["advice"]

    await sync("test", override_gate="it needs the device for a day")

    assert "VERSION=2" in of_container(place, "{{.Config.Env}}")
    assert last(place).details["gate"]["outcome"] == "overridden"
