"""What no recovery touches on a real engine: data in volumes, what other projects own, programs outside its folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from flows.deployment.startup import startup
from flows.recovery.error_recovery import error_recovery
from models.errors import Strategy
from models.recovery import Choice, RecoveryMethod, RecoveryOutcome, TicketState
from tests.e2e.flows.conftest import IMAGE, Place, end, well
from tests.e2e.flows.test_actions import ZEBRA
from tests.support.docker_command import docker_command
from tests.support.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

OWNER = "com.docker.compose.project"


async def recover_by(
    place: Place, strategy: Strategy, script: str | None = None, decided: Choice | None = None
) -> RecoveryOutcome:
    """Recover `web`, which has ended, from an error whose pattern asks for this strategy."""
    end(place)
    with place.stores() as stores:
        stores.patterns.put(replace(ZEBRA, strategy=strategy, recovery_script=script))
    return await error_recovery("test", "zebra crossed", service="web", decided=decided)


@pytest.fixture
def stranger(place: Place) -> Iterator[str]:
    """The name of a project beside ours; all that carries it as a name or label is taken away at the end."""
    name = f"{place.project}-beside"
    yield name
    for project in (name, place.project):
        mine = ("--filter", f"label={OWNER}={project}")
        if ids := docker_command("ps", "--all", "--quiet", *mine).split():
            docker_command("rm", "--force", "--volumes", *ids)
        if ids := docker_command("images", "--quiet", "--filter", "dangling=true", *mine).split():
            docker_command("rmi", *ids)
        for kind in ("network", "volume"):
            if ids := docker_command(kind, "ls", "--quiet", *mine).split():
                docker_command(kind, "rm", *ids)


@pytest.mark.campaign
async def test_room_is_made_of_dangling_images_and_never_of_volumes(place: Place, stranger: str) -> None:
    place.declare(well("web", volumes="['named:/named', '/unnamed']"))
    with (place.folder / "compose.yaml").open("a") as compose:
        compose.write("volumes: {named: {}}\n")
    await startup("test")
    web = place.container("web")
    docker_command("exec", web, "sh", "-c", "echo kept >/named/it; echo kept >/unnamed/it")
    # Volumes that nothing uses, one of them with a name and both of this project.
    unused = docker_command("volume", "create", "--label", f"{OWNER}={place.project}", f"{place.project}_unused")
    unnamed = docker_command("volume", "create", "--label", f"{OWNER}={place.project}")
    for volume in (unused, unnamed):
        docker_command("run", "--rm", "--volume", f"{volume}:/it", IMAGE, "sh", "-c", "echo kept >/it/it")
    mine = docker_command("commit", "--pause=false", web)
    theirs = docker_command("commit", "--pause=false", "--change", f"LABEL {OWNER}={stranger}", web)

    refused = await recover_by(place, Strategy.PRUNE_DISK)
    assert refused.method is RecoveryMethod.MANUAL_REQUIRED
    assert "% full; images are removed only from 90 % on" in refused.reason
    assert mine in docker_command("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split()
    docker_command("start", web)

    # A person who decides it needs no full disk.
    outcome = await recover_by(place, Strategy.PRUNE_DISK, decided=Choice.RETRY)

    assert outcome.success, outcome.reason
    left = docker_command("images", "--quiet", "--no-trunc", "--filter", "dangling=true").split()
    assert (mine in left, theirs in left) == (False, True)
    assert docker_command("exec", web, "cat", "/named/it", "/unnamed/it").split() == ["kept", "kept"]
    mounts = [part for volume in (unused, unnamed) for part in ("--volume", f"{volume}:/{volume}")]
    assert docker_command("run", "--rm", *mounts, IMAGE, "cat", f"/{unused}/it", f"/{unnamed}/it").split() == [
        "kept",
        "kept",
    ]


@pytest.mark.campaign
async def test_a_network_that_is_another_s_or_in_use_stays(place: Place, stranger: str) -> None:
    place.declare(well("web"))
    await startup("test")
    owners = {"over": place.project, "used": place.project, "theirs": stranger, "nobodys": ""}
    names = {key: f"{stranger}-{key}" for key in owners}
    for key, owner in owners.items():
        docker_command("network", "create", "--label", f"{OWNER}={owner}" if owner else "of=nobody", names[key])
    # It does not run, and needs its network to run again.
    docker_command("create", "--label", f"{OWNER}={stranger}", "--network", names["used"], IMAGE, "true")
    try:
        outcome = await recover_by(place, Strategy.PRUNE_NETWORKS)

        assert outcome.success, outcome.reason
        there = docker_command("network", "ls", "--format", "{{.Name}}").split()
        assert [key for key, name in names.items() if name not in there] == ["over"]
    finally:
        docker_command("network", "rm", names["nobodys"])


async def test_a_port_that_a_container_of_nobody_s_holds_is_not_freed(place: Place) -> None:
    port = free_port()
    place.declare(well("web", ports=f"['127.0.0.1:{port}:80']", restart="'no'"))
    await startup("test")
    end(place)
    holder = docker_command("run", "--detach", "--init", "--publish", f"127.0.0.1:{port}:80", IMAGE, "sleep", "600")
    try:
        lives = docker_command("inspect", "--format", "{{.State.StartedAt}} {{.State.Status}}", holder)

        outcome = await recover_by(place, Strategy.FREE_PORT)

        assert outcome.method is RecoveryMethod.MANUAL_REQUIRED
        assert "belongs to another project" in outcome.reason
        assert docker_command("inspect", "--format", "{{.State.StartedAt}} {{.State.Status}}", holder) == lives
    finally:
        docker_command("rm", "--force", holder)


async def test_a_program_outside_of_the_folder_of_scripts_is_never_run(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, outside = place.folder / "recovery", place.folder / "outside.sh"
    home.mkdir()
    monkeypatch.setenv("ROAS_RECOVERY_DIR", str(home))
    outside.write_text(f"#!/bin/sh\ntouch {place.folder}/ran\n")
    outside.chmod(0o755)
    (home / "link.sh").symlink_to(outside)
    place.declare(well("web"))
    await startup("test")

    outcome = await recover_by(place, Strategy.RUN_SCRIPT, "link.sh")

    assert outcome.method is RecoveryMethod.MANUAL_REQUIRED
    assert "link.sh lies outside of" in outcome.reason
    assert not (place.folder / "ran").exists()
    with place.stores() as stores:
        (ticket,) = stores.tickets.find()
        assert stores.recoveries.find() == []
    assert ticket.state is TicketState.OPEN
