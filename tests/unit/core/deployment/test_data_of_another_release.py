"""Data that was saved while another release ran may be what the release of now cannot read."""

from __future__ import annotations

from datetime import UTC, datetime

from core.deployment.release import data_of_another_release
from models.containers import ContainerState
from models.records import Release
from models.snapshots import DataSnapshot

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


def release(name: str, image: str) -> Release:
    return Release(
        release_id=name, environment="shop", deployment_id=name, created_at=NOW, proven=True,
        hashes={"web": "h1"}, images={"web": image},
    )  # fmt: skip


def web(image: str) -> ContainerState:
    return ContainerState(
        container_id="1", name="shop-web-1", service="web", project="shop", number=1, image="x", image_id=image,
        state="running", seen_at=NOW, config_hash="h1",
    )  # fmt: skip


def saved(release_id: str) -> DataSnapshot:
    return DataSnapshot(snapshot_id="s-1", environment="shop", begun_at=NOW, release_id=release_id)


RELEASES = (release("r-2", "i2"), release("r-1", "i1"))


def test_data_of_the_release_that_runs_needs_no_word() -> None:
    assert data_of_another_release(saved("r-1"), RELEASES, [web("i1")]) == ""
    assert data_of_another_release(saved(""), RELEASES, [web("i1")]) == ""


def test_data_of_another_release_is_said_to_be_so() -> None:
    assert "release r-2 ran" in data_of_another_release(saved("r-2"), RELEASES, [web("i1")])
    assert "release r-0 ran" in data_of_another_release(saved("r-0"), RELEASES, [web("i1")])
