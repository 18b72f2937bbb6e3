"""Attacks on a real engine through the real broker, and what legitimate clients do through it."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.docker.engine import DockerEngine
from core.runtime.broker_policy import PROJECT
from models.failures import EnginePermissionError
from tests.support.brokers import ATTACKS, IMAGE, RAW_ATTACKS, Body, ask, attacked, container, running_broker

pytestmark = pytest.mark.engine

SECONDS = timedelta(seconds=20)


def docker(*arguments: str, through: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    variables = os.environ | ({} if through is None else {"DOCKER_HOST": f"unix://{through}"})
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check, env=variables)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerScene:
    """A broker that serves one project, and what belongs to another beside it."""

    broker: Path
    root: Path
    project: str
    foreign_project: str
    foreign: str
    foreign_network: str
    foreign_volume: str

    def ask(self, method: str, target: str, body: Body | bytes | None = None) -> tuple[int, Any]:
        return ask(self.broker, method, target, body)

    def create(self, body: Body | bytes, name: str = "") -> tuple[int, Any]:
        return self.ask(
            "POST", f"/v1.45/containers/create?name={name or f'{self.project}-{uuid.uuid4().hex[:6]}'}", body
        )

    def mine(self) -> list[str]:
        return docker("ps", "-aq", "--filter", f"label={PROJECT}={self.project}").stdout.split()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerScene]:
    folder = tmp_path_factory.mktemp("broker")
    root = folder / "root"
    (root / "data").mkdir(parents=True)
    (root / "conf.txt").write_text("configured")
    (root / "out").symlink_to("/etc")
    (root / "up").symlink_to("../../..")
    (root / "within").symlink_to("conf.txt")
    (root / "data" / "below").mkdir()
    name = uuid.uuid4().hex[:8]
    project, foreign = f"roas-test-{name}", f"roas-test-foreign-{name}"
    label = ("--label", f"{PROJECT}={foreign}")
    docker("network", "create", *label, foreign)
    docker("volume", "create", *label, foreign)
    docker(
        *("run", "--detach", "--init", "--name", foreign, *label, "--env", "PASSWORD=geheim", "--network", foreign),
        *("--publish", "127.0.0.1::80", "--volume", f"{foreign}:/data", IMAGE, "sleep", "600"),
    )
    try:
        with running_broker(folder, project, roots=[root, f"{root / 'data'}:rw"]) as broker:
            yield BrokerScene(
                broker=broker, root=root, project=project, foreign_project=foreign, foreign=foreign,
                foreign_network=foreign, foreign_volume=foreign,
            )  # fmt: skip
    finally:
        for owner in (project, foreign):
            if left := docker("ps", "-aq", "--filter", f"label={PROJECT}={owner}").stdout.split():
                docker("rm", "--force", "--volumes", *left)
            if left := docker("network", "ls", "-q", "--filter", f"label={PROJECT}={owner}").stdout.split():
                docker("network", "rm", *left)
            if left := docker("volume", "ls", "-q", "--filter", f"label={PROJECT}={owner}").stdout.split():
                docker("volume", "rm", *left)


def refused(answer: tuple[int, Any]) -> str:
    status, reported = answer
    assert status == 403, reported
    assert reported["message"].startswith("engine broker: ")
    return str(reported["message"])


@pytest.mark.parametrize("attack", [*ATTACKS, *RAW_ATTACKS])
def test_no_container_that_gives_the_host_away_is_made(scene: BrokerScene, attack: str) -> None:
    name = f"{scene.project}-attack"
    refused(scene.create(attacked(attack, scene.project), name))
    assert docker("inspect", name, check=False).returncode != 0


def test_privileged_with_the_disk_of_the_host_by_the_command_line(scene: BrokerScene) -> None:
    label = ("--label", f"{PROJECT}={scene.project}")
    for option in (
        ("--privileged",), ("-v", "/:/host"), ("--mount", "type=bind,source=/,target=/host"), ("--pid", "host"),
        ("--cap-add", "SYS_ADMIN"), ("--device", "/dev/null"), ("--security-opt", "seccomp=unconfined"),
        ("--volumes-from", scene.foreign), ("--network", "host"), ("--network", f"container:{scene.foreign}"),
        ("--network", scene.foreign_network), ("-v", f"{scene.foreign_volume}:/x"), ("--ipc", "host"),
        ("--mount", "type=volume,target=/h,volume-opt=type=none,volume-opt=o=bind,volume-opt=device=/"),
    ):  # fmt: skip
        done = docker("create", *label, *option, IMAGE, "true", through=scene.broker, check=False)
        assert "engine broker:" in done.stderr, option
    assert scene.mine() == []


def test_no_volume_that_is_the_disk_of_the_host_is_made(scene: BrokerScene) -> None:
    done = docker(
        *("volume", "create", "--label", f"{PROJECT}={scene.project}", "-o", "type=none", "-o", "o=bind"),
        *("-o", "device=/", f"{scene.project}-v"), through=scene.broker, check=False,
    )  # fmt: skip
    assert "is not below a declared root" in done.stderr


def test_containers_of_others_are_neither_entered_nor_touched(scene: BrokerScene) -> None:
    name = scene.foreign
    refused(scene.ask("POST", f"/containers/{name}/exec", {"Cmd": ["id"]}))
    refused(scene.ask("POST", f"/containers/{name}/exec", {"Cmd": ["id"], "Privileged": True}))
    identity = docker("inspect", "-f", "{{.Id}}", name).stdout.strip()
    for reference in (name, identity, identity[:12]):
        for action in ("start", "stop", "restart", "kill", "pause", "rename?name=x"):
            assert "project" in refused(scene.ask("POST", f"/v1.45/containers/{reference}/{action}"))
        refused(scene.ask("DELETE", f"/containers/{reference}?force=1"))
        refused(scene.ask("PUT", f"/containers/{reference}/archive?path=/", b"x"))
        refused(scene.ask("GET", f"/containers/{reference}/logs?stdout=1"))
    refused(scene.ask("DELETE", f"/networks/{scene.foreign_network}"))
    assert docker("inspect", "-f", "{{.State.Status}} {{.RestartCount}}", name).stdout.split() == ["running", "0"]


def test_a_command_begun_by_another_client_is_not_started(scene: BrokerScene) -> None:
    made = ask(Path("/var/run/docker.sock"), "POST", f"/containers/{scene.foreign}/exec", {"Cmd": ["id"]})[1]["Id"]
    refused(scene.ask("POST", f"/exec/{made}/start", {"Detach": True}))
    refused(scene.ask("GET", f"/exec/{made}/json"))


def test_no_environment_of_others_is_read(scene: BrokerScene) -> None:
    for target in (f"/containers/{scene.foreign}/json", "/containers/json?all=1"):
        status, reported = scene.ask("GET", target)
        assert status == 200
        assert "geheim" not in json.dumps(reported)
    (listed,) = [one for one in scene.ask("GET", "/containers/json")[1] if one["Names"] == [f"/{scene.foreign}"]]
    assert set(listed) <= {"Id", "Names", "Image", "ImageID", "Created", "Ports", "State", "Status", "Labels"}


def test_what_validation_asks_of_others_is_still_answered(scene: BrokerScene) -> None:
    engine = DockerEngine(f"unix://{scene.broker}")
    try:
        (holder,) = [one for one in engine.networks.published_ports() if one.container == scene.foreign]
        (seen,) = engine.containers.inspect_all([scene.foreign])
        assert holder.project == seen.project == scene.foreign_project
        assert seen.environment_names == ()
        assert scene.foreign_network in [network.name for network in engine.networks.find()]
        assert scene.foreign_volume in engine.volumes.names()
        assert not engine.networks.is_unused(scene.foreign_network)
        with pytest.raises(EnginePermissionError, match=f"project {scene.foreign_project}, which is not declared"):
            engine.containers.stop(seen.container_id)
    finally:
        engine.close()


def test_images_of_others_stay(scene: BrokerScene) -> None:
    built = subprocess.run(
        ["docker", "build", "--quiet", "--tag", f"{scene.project}:foreign", "-"],
        input=f"FROM {IMAGE}\nENV ONLY={scene.project}\n", capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    try:
        for target in (
            f"/images/{scene.project}:foreign?force=1", f"/images/{scene.project}:foreign", f"/images/{built}",
            f"/images/{built}?force=1", f"/images/{built}?force=true",
        ):  # fmt: skip
            refused(scene.ask("DELETE", target))
        refused(scene.ask("POST", f"/images/{built}/tag?repo=debian&tag=trixie-slim"))
        assert docker("image", "inspect", built).returncode == 0
    finally:
        docker("image", "rm", f"{scene.project}:foreign")


def test_no_image_is_made_of_what_a_client_sends(scene: BrokerScene) -> None:
    for target, body in (
        ("/images/create?fromSrc=-&repo=roas-test-x", b"x"),
        ("/images/create?fromSrc=http://x/y.tar&repo=roas-test-x", None),
        ("/images/create?fromImage=x", b"fromSrc=-&repo=roas-test-x"),
        ("/images/load", b"x"),
        ("/build", b"x"),
        ("/commit?container=x", None),
    ):
        refused(scene.ask("POST", target, body))


@pytest.mark.parametrize(
    ("below", "writable", "allowed"),
    [
        ("conf.txt", False, True),
        ("within", False, True),
        ("missing", False, True),
        ("data", True, True),
        ("conf.txt", True, False),
        ("out", False, False),
        ("out/passwd", False, False),
        ("up", False, False),
        ("up/etc", False, False),
        ("data/below", True, False),
        ("data/below", False, False),
    ],
)
def test_links_below_a_root_lead_nowhere_else(scene: BrokerScene, below: str, writable: bool, allowed: bool) -> None:
    source = f"{scene.root}/{below}"
    for host in (
        {"Binds": [f"{source}:/x:{'rw' if writable else 'ro'}"]},
        {"Mounts": [{"Type": "bind", "Source": source, "Target": "/x", "ReadOnly": not writable}]},
    ):
        status, reported = scene.create(container(scene.project, **host))
        if allowed and not ("Mounts" in host and below == "missing"):
            assert status == 201, reported
            docker("rm", reported["Id"])
        elif not allowed:
            assert status == 403, reported


def test_a_container_takes_the_folder_it_writes_into_for_no_way_out(scene: BrokerScene) -> None:
    """It could swap a folder below for a link between the broker's check and the mount."""
    status, reported = scene.create(container(scene.project, Binds=[f"{scene.root}/data:/data"]))
    assert status == 201
    scene.ask("POST", f"/containers/{reported['Id']}/start")
    docker("exec", reported["Id"], "sh", "-c", "mkdir /data/swap && rmdir /data/swap && ln -s / /data/swap")
    for mode in ("", ":ro"):
        refused(scene.create(container(scene.project, Binds=[f"{scene.root}/data/swap:/host{mode}"])))
    docker("rm", "--force", reported["Id"])


def test_a_network_cannot_pass_for_the_beginning_of_another_s_id(scene: BrokerScene) -> None:
    identity = docker("network", "inspect", "-f", "{{.Id}}", scene.foreign_network).stdout.strip()
    refused(scene.ask("POST", "/networks/create", {"Name": identity[:12], "Labels": {PROJECT: scene.project}}))
    for name in (identity, identity[:12]):
        refused(scene.create(container(scene.project, NetworkMode=name)))


def test_a_container_of_the_project_lives_through_it(scene: BrokerScene) -> None:
    run = ("run", "--detach", "--init", "--label", f"{PROJECT}={scene.project}", "--volume", "/kept")
    name = f"{scene.project}-web-1"
    docker(*run, "--name", name, IMAGE, "sleep", "600", through=scene.broker)
    assert docker("exec", name, "echo", "heard", through=scene.broker).stdout == "heard\n"
    entered = subprocess.run(
        ["docker", "exec", "-i", name, "cat"], input="typed", capture_output=True, text=True, check=True,
        env=os.environ | {"DOCKER_HOST": f"unix://{scene.broker}"},
    )  # fmt: skip
    assert entered.stdout == "typed"
    engine = DockerEngine(f"unix://{scene.broker}")
    try:
        (web,) = engine.containers.inspect_project(scene.project)
        assert [sample.container_id for sample in engine.statistics.samples(scene.project)] == [web.container_id]
        engine.containers.exec(web.container_id, ["sh", "-c", "echo made > /kept/file"], timeout=SECONDS)
        kept = engine.containers.snapshot(web.container_id)
        engine.containers.stop(web.container_id, timedelta())
        engine.containers.remove(web.container_id)
        again = engine.containers.recreate(kept)
        engine.containers.start(again)
        assert engine.containers.exec(again, ["cat", "/kept/file"], timeout=SECONDS) == (0, "made\n")
    finally:
        engine.close()
        docker("rm", "--force", "--volumes", *scene.mine())
