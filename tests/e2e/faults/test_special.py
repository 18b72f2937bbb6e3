"""Faults that need more than a broken declaration: an engine of their own, a lost runner, what no undoing mends."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import docker
import pytest
from docker.errors import APIError

from flows.deployment.startup import startup
from models.errors import Category
from models.operations import OperationStatus
from models.results import OperationResult
from tasks.reporting.read import read_explanation
from tasks.runtime.stores import open_stores
from tests.e2e.faults.endured import InjectedFault, begin, endure, look_after, until
from tests.e2e.faults.scenes import HEALTH, IMAGE, WELL, Scene, broken, says
from tests.e2e.flows.test_interruption import kill_at, roas
from tests.support.engines import OwnEngine

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=15)]

ILL = broken("base", command=says("echo no licence found; exit 1"))
LATE = broken("base", command=["sleep", "600"], healthcheck=HEALTH | {"start_period": "60s"})
FAILS = InjectedFault(
    name="fails",
    services=ILL,
    words="base ended with exit code 1",
    shown="no licence found",
    categories=(Category.CONTAINER_EXITED,),
)


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    made = Scene(environments=folder, name="test")
    made.set_up()
    yield made
    made.clean()


@pytest.fixture
def own_scene(folder: Path, own_engine: OwnEngine) -> Scene:
    """A scene on an engine of its own, which is emptied afterwards."""
    made = Scene(environments=folder, name="test", engine=own_engine.address)
    made.set_up()
    return made


@pytest.fixture
def cramped_engine() -> Iterator[OwnEngine]:
    """An engine with a disk of its own and addresses for two networks."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        pytest.skip("a Docker engine of its own needs root and dockerd")
    folder = Path(tempfile.mkdtemp(prefix="roas-engine-"))
    disk = folder / "data"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "none", disk], check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    engine = OwnEngine(folder, "base=10.215.0.0/23,size=24")
    try:
        engine.start()
        engine.load(IMAGE)
        yield engine
        engine.clear()
        engine.stop()
    finally:
        if engine.running:
            engine.kill()
        engine.remove_bridge()
        subprocess.run(["umount", "--lazy", "--recursive", disk], check=False)
        shutil.rmtree(folder, ignore_errors=True)


async def proven(scene: Scene, services: object = WELL) -> None:
    scene.declare(services)  # type: ignore[arg-type]
    result = await startup(scene.name)
    assert isinstance(result, OperationResult)
    assert result.success


async def start_succeeds(scene: Scene) -> None:
    await proven(scene)
    assert {name: reported[-1] for name, reported in scene.state().containers.items()} == {
        "base": "healthy",
        "top": "healthy",
    }


@pytest.mark.parametrize("after_a_release", [True, False], ids=["after a proven release", "with nothing before"])
async def test_an_undoing_whose_runner_is_killed_is_finished_by_resume(scene: Scene, after_a_release: bool) -> None:
    if after_a_release:
        await proven(scene)
    before, began = scene.state(), time.monotonic()
    scene.declare(ILL)
    killed = kill_at("startup", "after", "undoing")

    with roas("resume", killed) as resumed:
        said, _ = resumed.communicate(timeout=300)

    assert resumed.returncode == 1, said
    endured = await look_after(FAILS, scene, before, proven=after_a_release, took_seconds=time.monotonic() - began)
    assert endured.operation.deployment_id == killed
    assert endured.complaints() == []


async def test_a_start_after_an_undoing_that_was_killed_proves_the_whole(scene: Scene) -> None:
    await proven(scene)
    scene.declare(ILL)
    killed = kill_at("startup", "after", "undoing")

    await start_succeeds(scene)

    assert "interrupted" in str(open_stores().operations.get(killed).details["interrupted"])
    assert open_stores().operations.list_running() == []


async def test_a_mended_start_closes_the_error_of_the_failed_one(scene: Scene) -> None:
    scene.declare(ILL)
    await startup("test", return_state=True)
    assert open_stores().errors.list_unresolved("test") != []

    await start_succeeds(scene)

    assert open_stores().errors.list_unresolved("test") == []


async def test_a_changed_file_that_no_release_brings_back_is_named_and_the_undoing_called_failed(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_KEEP_FILES", "false")
    conf = scene.folder / "shop.conf"
    conf.write_text("open = yes\n")
    reads = broken(
        "base",
        command=says(
            "grep -q yes /etc/shop.conf || { echo shop.conf: not open; exit 2; };"
            " touch /tmp/well /tmp/serves; exec sleep 600"
        ),
        volumes=["./shop.conf:/etc/shop.conf:ro"],
    )
    await proven(scene, reads)
    conf.write_text("open = no\n")

    await startup("test", return_state=True)

    reported = read_explanation(None)
    assert reported.status is OperationStatus.FAILED
    assert reported.headline.startswith("base ended with exit code 2")
    assert any("shop.conf: not open" in line.text for line in reported.lines)
    assert any("shop.conf changed" in change for change in reported.changed)
    (tried,) = reported.tried
    assert tried.startswith("undoing failed: base did not start: it ended with exit code 2")
    conf.write_text("open = yes\n")
    await proven(scene, reads)


async def test_a_release_that_no_probe_can_prove_is_left_there_and_said_to_be_unproven(
    scene: Scene,
) -> None:
    await proven(scene)
    before = scene.state()
    nobody = {"kind": "command", "command": ["test", "-e", "/nowhere"]}
    scene.declare(
        broken("base", environment={"STAGE": "two"}), services={"base": {"probe": nobody, "start_timeout_seconds": 3}}
    )

    await startup("test", return_state=True)

    reported = read_explanation(None)
    assert reported.status is OperationStatus.FAILED
    assert reported.headline.startswith("base runs but does not serve")
    assert reported.tried[0].startswith("undoing failed: base did not start")
    assert scene.state().containers["base"][1] == before.containers["base"][1]
    await start_succeeds(scene)


async def test_a_start_whose_engine_is_stopped_is_undone_once_it_is_back(
    own_scene: Scene, own_engine: OwnEngine
) -> None:
    await proven(own_scene)
    before = own_scene.state()
    own_scene.declare(LATE)
    starting = begin(own_scene)
    await until(lambda: _new_base_runs(own_scene, before.containers["base"][0]))

    await asyncio.to_thread(own_engine.stop)
    await asyncio.to_thread(own_engine.start)
    await starting

    endured = await look_after(
        InjectedFault(
            name="engine stopped",
            services=LATE,
            # A busy machine may need longer than the engine gives containers as it stops.
            words="The engine went away during it: base ended with exit code 1(43|37)",
            categories=(Category.DOCKER_DAEMON_UNREACHABLE,),
        ),
        own_scene, before, proven=True, took_seconds=0,
    )  # fmt: skip
    assert endured.complaints() == []


async def test_a_start_whose_engine_stays_away_says_what_could_not_be_undone(
    own_scene: Scene, own_engine: OwnEngine
) -> None:
    await proven(own_scene)
    base = own_scene.state().containers["base"][0]
    own_scene.declare(LATE, services={"base": {"start_timeout_seconds": 2}})
    starting = begin(own_scene)
    await until(lambda: _new_base_runs(own_scene, base))

    await asyncio.to_thread(own_engine.kill)
    await starting

    reported = read_explanation(None)
    assert reported.status is OperationStatus.FAILED
    assert "engine went away" in reported.headline
    assert reported.tried[0].startswith("undoing failed: Docker engine at unix://")
    assert any("base" in change for change in reported.changed)
    assert open_stores().operations.list_running() == []
    (error,) = open_stores().errors.list_unresolved("test")
    assert error.verdict.category is Category.DOCKER_DAEMON_UNREACHABLE
    await asyncio.to_thread(own_engine.start)
    await start_succeeds(own_scene)


async def test_a_disk_that_fills_while_containers_are_made_is_reported_and_undone(
    folder: Path, cramped_engine: OwnEngine
) -> None:
    fault = InjectedFault(
        name="disk full",
        services=broken("base", environment={"STAGE": "two"}),
        once_found=lambda _scene: _full(cramped_engine.folder / "data"),
        words="no space left on device",
        cause=None,
        categories=(Category.DISK_FULL,),
    )
    for name in ("proven", "fresh"):
        scene = Scene(environments=folder, name=name, engine=cramped_engine.address)
        endured = await endure(fault, scene, proven=name == "proven")
        # How far the engine came decides whether base is reported as the place where the disk was felt.
        assert set(endured.complaints()) <= {"base is blamed, not None"}
        scene.clean()


async def test_addresses_that_run_out_while_networks_are_made_are_reported_and_undone(
    folder: Path, cramped_engine: OwnEngine
) -> None:
    scene = Scene(environments=folder, name="fresh", engine=cramped_engine.address)
    fault = InjectedFault(
        name="no addresses",
        services=WELL,
        once_found=_all_addresses_taken,
        words="IPv4 address pool",
        cause=None,
        categories=(Category.DOCKER_NETWORK,),
    )
    endured = await endure(fault, scene, proven=False)
    assert endured.complaints() == []


async def test_addresses_that_have_run_out_stop_the_start(folder: Path, cramped_engine: OwnEngine) -> None:
    scene = Scene(environments=folder, name="fresh", engine=cramped_engine.address)
    fault = InjectedFault(
        name="no addresses",
        services=WELL,
        meanwhile=_all_addresses_taken,
        words="needs 1 new networks, but the engine has addresses for 0 more",
        cause=None,
        categories=(Category.DOCKER_NETWORK,),
        refused=True,
    )
    endured = await endure(fault, scene, proven=False)
    assert endured.complaints() == []


def _new_base_runs(scene: Scene, old: str) -> bool:
    base = scene.state().containers.get("base")
    return base is not None and base[0] != old and base[-1] in ("starting", "running")


def _limit(disk: Path, size: str) -> bool:
    """Whether the file system could be given that size; not where more of it is in use."""
    remounted = subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=False, capture_output=True)
    return remounted.returncode == 0


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    """A disk of no more than what is in use: at once, where writing it full takes longer than a start does."""

    def is_shrunk() -> bool:
        found = os.statvfs(disk)
        return _limit(disk, str((found.f_blocks - found.f_bfree) * found.f_frsize))

    while not is_shrunk():
        pass
    try:
        yield
    finally:
        assert _limit(disk, "1g")


@contextmanager
def _all_addresses_taken(scene: Scene) -> Iterator[None]:
    """Through the engine's API: commands would come after the start, which acts as soon as validation is over."""
    names: list[str] = []
    with closing(docker.APIClient(base_url=scene.engine)) as client:
        try:
            with suppress(APIError):
                while True:
                    client.create_network(f"taken-{len(names)}")
                    names.append(f"taken-{len(names)}")
            yield
        finally:
            for name in names:
                client.remove_network(name)
