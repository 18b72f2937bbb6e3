"""Names of images behind the broker: a failed update gives them back, and nothing else may."""

from __future__ import annotations

import secrets
import subprocess

import pytest

from flows.deployment.startup import startup
from flows.deployment.update import update
from models.failures import StartFailedError
from tests.e2e.flows.conftest import HEALTH, IMAGE, Place
from tests.support.brokers import ask, running_broker
from tests.support.docker_command import docker_command
from tests.support.registry import Registry, image_id

pytestmark = [pytest.mark.engine, pytest.mark.flow]

WELL = 'CMD ["sh", "-c", "touch /tmp/well; exec sleep 600"]'
BAD = 'CMD ["sh", "-c", "echo no licence found; exit 3"]'


def service(image: str) -> str:
    return f"web:\n  image: {image}\n  init: true\n  healthcheck: {HEALTH}\n"


@pytest.mark.campaign
async def test_a_failed_update_behind_the_broker_gives_the_names_back(place: Place, images: Registry) -> None:
    images.publish("web", "ENV VERSION=1", WELL)
    name = images.image("web")
    with running_broker(place.folder, place.project, roots=[place.folder]) as broker:
        place.declare(service(name), engine=f"unix://{broker}")
        await startup("test")
        earlier = image_id(name)
        images.publish("web", "ENV VERSION=2", BAD)

        with pytest.raises(StartFailedError):
            await update("test")

    with place.stores() as stores:
        (last,) = stores.operations.history(environment="test", limit=1)
    assert last.details["image_names_restored"] == [name]
    assert image_id(name) == earlier
    assert place.containers(running=True) == ["web"]
    assert "refused" not in (place.folder / "broker.log").read_text()


@pytest.mark.campaign
async def test_the_broker_gives_no_other_name(place: Place) -> None:
    """An image of the attacker's takes neither a name of the application, nor one that others use, nor a new one."""
    evil_name, mine, theirs = (f"roas-test-{part}-{secrets.token_hex(4)}:1" for part in ("evil", "mine", "theirs"))
    foreign = f"roas-test-foreign-{secrets.token_hex(4)}"
    subprocess.run(
        ["docker", "build", "--quiet", "-t", evil_name, "-"],
        input=f"FROM {IMAGE}\nENV EVIL={foreign}\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in (mine, theirs):
        docker_command("tag", IMAGE, name)
    evil, good = image_id(evil_name), image_id(IMAGE)
    try:
        with running_broker(place.folder, place.project, roots=[place.folder]) as broker:
            place.declare(service(mine).replace("\n", "\n  command: [sh, -c, 'touch /tmp/well; sleep 600']\n", 1))
            await startup("test")

            def named(image: str, name: str) -> int:
                repo, _, of_tag = name.partition(":")
                return ask(broker, "POST", f"/images/{image}/tag?repo={repo}&tag={of_tag}")[0]

            body = {"Image": evil[7:19], "Labels": {"com.docker.compose.project": place.project}, "Cmd": ["true"]}
            assert ask(broker, "POST", f"/containers/create?name={place.project}-{foreign}", body)[0] == 201
            assert [
                named(evil, mine),
                named(evil, theirs),
                named(evil, "roas-test-brandnew:1"),
                named(evil, f"{evil[7:19]}:latest"),
                named(evil[7:19], mine),
                named(good, evil_name),
            ] == [403] * 6
            docker_command("tag", evil_name, mine)
            assert named(good, mine) == 201
            assert image_id(mine) == good

            docker_command("tag", evil_name, mine)
            command = ["docker", "create", "--name", f"{foreign}-2", mine, "true"]
            subprocess.run(command, capture_output=True, check=True)
            assert named(good, mine) == 403
    finally:
        subprocess.run(
            ["docker", "rm", "-f", f"{place.project}-{foreign}", f"{foreign}-2"], capture_output=True, check=False
        )
        subprocess.run(["docker", "rm", "-f", place.container("web")], capture_output=True, check=False)
        subprocess.run(["docker", "rmi", "-f", evil_name, mine, theirs], capture_output=True, check=False)
