"""The life of an application beside a worker that reaches the engine only through the broker."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.deployment.restart import restart
from flows.deployment.rollback import rollback
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.monitoring.collection import collection
from flows.recovery.error_recovery import error_recovery
from models.containers import RELEASE_IMAGES
from models.recovery import RecoveryMethod
from tasks.runtime.project import open_project
from tests.e2e.flows.conftest import IMAGE, Place, end, well
from tests.e2e.flows.test_actions import ZEBRA
from tests.support.brokers import running_broker

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.fixture
def broker(place: Place) -> Iterator[Path]:
    with running_broker(place.folder, place.project, roots=[place.folder]) as listening:
        yield listening


@pytest.mark.campaign
async def test_releases_are_kept_gone_back_to_and_stopped_through_it(place: Place, broker: Path) -> None:
    engine = f"unix://{broker}"
    place.declare(well("base"), engine=engine)
    await startup("test")
    place.declare(well("base", environment="{EDITION: second}"), engine=engine)
    await startup("test")
    with place.stores() as stores:
        newer, older = stores.releases.latest("test")
    assert newer.hashes["base"] != older.hashes["base"]

    await restart("test")
    seen = await collection("test")
    assert (seen.overall_status, seen.gaps) == ("healthy", ())
    await rollback("test", older.release_id)
    (base,) = open_project("test").inspect_containers()
    assert (base.state, base.config_hash) == ("running", older.hashes["base"])
    await stop("test")

    assert place.containers(running=True) == []


def test_an_image_loses_its_name_and_goes_through_it(place: Place, broker: Path) -> None:
    place.declare(well("base"), engine=f"unix://{broker}")
    label = f"com.docker.compose.project={place.project}"
    made = subprocess.run(
        ["docker", "build", "--quiet", "--label", label, "-"],
        input=f"FROM {IMAGE}\nENV ONLY={place.project}\n", capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    tag = f"{place.project.removeprefix('roas-test-')}-{secrets.token_hex(8)}"
    engine, name = open_project("test").engine, f"{RELEASE_IMAGES}:{tag}"

    engine.images.tag(made, name)
    assert engine.images.dangling_images(place.project) == {}
    engine.images.tag(IMAGE, name)
    assert list(engine.images.dangling_images(place.project)) == [made]
    engine.images.remove_dangling(made)
    engine.images.untag(name)

    assert engine.images.dangling_images(place.project) == {}
    assert engine.images.inspect(made) is None
    assert engine.images.inspect(IMAGE) is not None
    assert name not in engine.images.tags(RELEASE_IMAGES)


@pytest.mark.campaign
async def test_a_probe_in_a_container_and_a_repair_go_through_it(place: Place, broker: Path) -> None:
    (place.folder / "conf.txt").write_text("configured")
    place.declare(
        well("web", volumes="['./conf.txt:/conf.txt:ro']"),
        engine=f"unix://{broker}",
        services="{web: {probe: {kind: command, command: [test, -s, /conf.txt]}}}",
    )
    await startup("test")
    with place.stores() as stores:
        stores.patterns.put(ZEBRA)
    end(place)

    outcome = await error_recovery("test", "zebra crossed", service="web")

    assert (outcome.method, outcome.success) == (RecoveryMethod.AUTOMATIC, True)
    assert place.containers(running=True) == ["web"]
    assert "refused" not in (place.folder / "broker.log").read_text()
