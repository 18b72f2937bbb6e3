"""`roas sync` from a registry on the real engine: what a tag names is updated to by its digest, or all is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.deployment.rollback import rollback
from flows.deployment.sync import TAKING, sync
from flows.operation.recorder import ROLLING_BACK
from models.failures import SourceError, StartFailedError
from models.operations import OperationStatus
from models.results import OperationResult
from tests.e2e.deployments.test_sync import compose, last, of_container, releases, unchanged
from tests.e2e.flows.conftest import Place, flows_are_recorded, place  # noqa: F401 - fixtures
from tests.e2e.flows.test_interruption import kill_at
from tests.support.artifacts import ArtifactPlace, SigningKey, artifact_registry
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]

FAILS = "echo no licence found; exit 3"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ArtifactPlace]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    with artifact_registry(tmp_path / "registry") as made:
        yield made


def declare(place: Place, shop: ArtifactPlace, key: SigningKey | None = None) -> None:  # noqa: F811
    declared = {
        "name": "test",
        "project": place.project,
        "source": {"oci": shop.address} | ({"verify": {"key": str(key.file)}} if key else {}),
        "compose_files": ["compose.yaml"],
        "env_files": ["shop.env"],
        "stabilisation_seconds": 0.5,
        "start_timeout_seconds": 300,
    }
    (place.folder / "test.yaml").write_text(json.dumps(declared))


def publish(shop: ArtifactPlace, version: str, *command: str) -> str:
    text = compose("$SHOP_VERSION", *command)["deploy/compose.yaml"].replace(
        "site.conf:/site.conf", "shop.env:/site.conf"
    )
    return shop.publish({"compose.yaml": text, "shop.env": f"SHOP_VERSION={version}\n"})


def version_of(place: Place) -> str:  # noqa: F811
    """That of the container, which has to be that of its checkout."""
    variables = json.loads(of_container(place, "{{json .Config.Env}}"))
    version = next(one for one in variables if one.startswith("VERSION=")).partition("=")[2]
    current = place.settings.data_dir / "sources/test/current"
    assert (current / "shop.env").read_text() == f"SHOP_VERSION={version}\n"
    return str(version)


async def test_what_a_tag_names_is_updated_to_and_its_digest_is_on_record(place: Place, shop: ArtifactPlace) -> None:  # noqa: F811
    key = SigningKey(place.folder / "cosign.pub")
    declare(place, shop, key)
    shop.sign(first := publish(shop, "1"), key)
    await sync("test")
    second = publish(shop, "2")
    with pytest.raises(SourceError, match=f"Artifact {second[:12]} of test is not signed by the key"):
        await sync("test")
    assert (last(place).status, last(place).kind) == (OperationStatus.FAILED, "sync")
    assert version_of(place) == "1"
    shop.sign(second, key)

    result = await sync("test", revision=second[:12])

    assert isinstance(result, OperationResult)
    assert result.success
    assert version_of(place) == "2"
    assert [(one.source.revision, one.source.ref) for one in releases(place)[:1] if one.source] == [(second, "latest")]
    assert last(place).details["source"]["before"] == first
    assert (await unchanged()).startswith(f"nothing new: {second[:12]} (latest) runs already")


@pytest.mark.campaign(seconds=60)
async def test_a_bad_artifact_is_rolled_back_and_a_rollback_or_an_older_artifact_waits(
    place: Place,  # noqa: F811
    shop: ArtifactPlace,
) -> None:
    declare(place, shop)
    first = publish(shop, "1")
    await sync("test")
    bad = publish(shop, "2", FAILS)
    with pytest.raises(StartFailedError):
        await sync("test")
    assert version_of(place) == "1"
    assert f"{bad[:12]} (latest) is held back" in await unchanged()
    third = publish(shop, "3")
    await sync("test")
    assert version_of(place) == "3"

    shop.move("latest", first)
    with pytest.raises(SourceError, match=f"{first[:12]} .* does not follow {third[:12]}"):
        await sync("test")
    shop.registry.stop()
    await rollback("test")

    assert version_of(place) == "1"
    assert last(place).details["pinned"] == first
    with pytest.raises(SourceError, match="did not answer"):
        await sync("test")
    shop.registry.start()
    shop.move("latest", third)
    assert f"test stays at revision {first[:12]}" in await unchanged()
    await sync("test", unpin=True)
    assert version_of(place) == "3"


@pytest.mark.parametrize("when", [(TAKING,), (ROLLING_BACK,)], ids=["taking", "rolling back"])
@pytest.mark.campaign(seconds=60)
async def test_a_sync_that_was_killed_goes_on_without_the_registry(
    place: Place,  # noqa: F811
    shop: ArtifactPlace,
    when: tuple[str, ...],
) -> None:
    declare(place, shop)
    publish(shop, "1")
    await sync("test")
    fails = when == (ROLLING_BACK,)
    publish(shop, "2", *([FAILS] if fails else []))
    operation = kill_at("sync", "after", *when)
    shop.registry.stop()

    if fails:
        with pytest.raises(StartFailedError):
            await sync("test", deployment_id=operation)
    else:
        await sync("test", deployment_id=operation)

    assert version_of(place) == ("1" if fails else "2")
