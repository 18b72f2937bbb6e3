"""Installations that share a repository of snapshots, and stores that were lost or restored: no snapshot is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.snapshots.restic import ResticRepository
from adapters.snapshots.streams import Command, Limit, stream
from adapters.stores import Stores
from core.storage.snapshots import choose_snapshot
from models.environments import Environment
from models.failures import DamagedRepositoryError, NotFoundError, SnapshotError
from models.snapshots import DataSnapshot, SnapshotPart, SnapshotReason, SnapshotState, UnknownState
from tasks.runtime.identifiers import new_snapshot_id
from tasks.runtime.stores import open_stores
from tasks.storage.adoption import adopt_snapshots, unknown_snapshots
from tasks.storage.repository import repository_of
from tasks.storage.snapshots import check_part, end_snapshot, forget_leftovers, forget_old, save_manifest


@dataclass(frozen=True, slots=True)
class Installations:
    """Data folders of several installations that share a repository."""

    folder: Path
    monkeypatch: pytest.MonkeyPatch
    environment: Environment

    @contextmanager
    def at(self, name: str) -> Iterator[Stores]:
        """This process as one of them."""
        self.monkeypatch.setenv("ROAS_DATA_DIR", str(self.folder / name))
        yield open_stores()

    def repository(self) -> ResticRepository:
        made = repository_of(self.environment)
        made.prepare(Limit(60))
        return made

    async def save(self, stores: Stores, text: str, *, until: str = "whole") -> DataSnapshot:
        """Take a snapshot as the flow does, or be killed: `until` a part or the manifest is saved."""
        repository = self.repository()
        forget_leftovers(repository, "shop", Limit(60))
        now = datetime.now(UTC)
        begun = DataSnapshot(
            snapshot_id=new_snapshot_id(now), environment="shop", begun_at=now, reason=SnapshotReason.UPDATE
        )
        stores.snapshots.begin(begun)
        source = Command(what="the source", arguments=("echo", text))
        saved = repository.parse_saved(stream(source, repository.receiver("db/shop", begun.snapshot_id), Limit(60)))
        if until == "part":
            return begun
        part = SnapshotPart(
            name="db/shop", kind="postgresql", restic_id=saved.restic_id, bytes=saved.bytes, added_bytes=1, seconds=1,
            facts={"roles": ["app"]},
        )  # fmt: skip
        whole = replace(begun, state=SnapshotState.WHOLE, ended_at=datetime.now(UTC), parts=(part,))
        await save_manifest.fn(self.environment, whole)
        if until == "manifest":
            return whole
        await end_snapshot(whole)
        await forget_old.fn(self.environment)
        return whole

    def texts(self) -> set[str]:
        """What the parts in the repository say."""
        repository, found = self.repository(), set()
        for one in repository.entries(Limit(60)):
            if not one.is_manifest:
                found.add(repository._run(Limit(60), "read", "dump", one.restic_id, "db_shop").output.strip())
        return found


@pytest.fixture
def installations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installations]:
    monkeypatch.setenv("SHOP_REPOSITORY", "of the shared repository")
    values = {
        "name": "shop",
        "project": "shop",
        "compose_files": [str(tmp_path / "compose.yaml")],
        "secrets": [{"name": "SHOP_REPOSITORY"}],
        "data": {
            "save": [{"kind": "postgresql", "service": "db", "user": "shop"}],
            "repository": str(tmp_path / "repository"),
            "password_secret": "SHOP_REPOSITORY",
            "keep": {"last": 1, "daily": 0, "weekly": 0},
        },
    }
    made = Installations(tmp_path, monkeypatch, Environment.model_validate(values))
    yield made
    for folder in tmp_path.glob("*/snapshots"):
        with made.at(folder.parent.name) as stores:
            stores.close()


async def test_three_installations_on_one_repository_lose_nothing(installations: Installations) -> None:
    for name in ("one", "two", "three"):
        with installations.at(name) as stores:
            await installations.save(stores, name)
    with installations.at("two") as stores:
        await installations.save(stores, "two again")
        assert installations.texts() == {"one", "two again", "three"}
        found = await unknown_snapshots(installations.environment)
        assert {one.state for one in found} == {UnknownState.WHOLE}
        await adopt_snapshots(installations.environment, [])
        await installations.save(stores, "two at last")
        adopted = [one for one in stores.snapshots.list_for("shop") if one.reason is SnapshotReason.ADOPTED]
        assert len(adopted) == 2
        assert adopted[0].parts[0].facts == {"roles": ["app"]}
    assert installations.texts() == {"one", "two at last", "three"}


@pytest.mark.campaign(seconds=12)
async def test_what_another_installation_is_saving_now_stays(installations: Installations) -> None:
    with installations.at("one") as stores:
        await installations.save(stores, "half", until="part")
    with installations.at("two") as stores:
        await installations.save(stores, "two")
        assert [one.state for one in await unknown_snapshots(installations.environment)] == [UnknownState.INCOMPLETE]
        assert installations.texts() == {"half", "two"}
    with installations.at("one") as stores:
        await installations.save(stores, "whole")
        assert installations.texts() == {"whole", "two"}, "what it killed itself goes"


@pytest.mark.campaign(seconds=12)
async def test_a_store_that_was_lost_loses_no_snapshot(installations: Installations) -> None:
    with installations.at("one") as stores:
        before = await installations.save(stores, "before")
    shutil.copytree(installations.folder / "one" / "snapshots", installations.folder / "again" / "snapshots")
    with installations.at("again") as stores:
        now = await installations.save(stores, "now")
        assert installations.texts() == {"before", "now"}
        assert await adopt_snapshots(installations.environment, [before.snapshot_id]) == [before]
        assert stores.snapshots.list_for("shop") == [now, before]
        await forget_old.fn(installations.environment)
        # It is its own, so its policy decides again.
        assert installations.texts() == {"now"}


@pytest.mark.campaign
async def test_a_store_restored_from_a_backup_made_while_a_snapshot_was_taken_loses_no_snapshot(
    installations: Installations,
) -> None:
    with installations.at("one") as stores:
        killed = await installations.save(stores, "killed after its manifest", until="manifest")
        await installations.save(stores, "next")
        states = {one.snapshot_id: one.state for one in stores.snapshots.list_for("shop")}
        assert set(states.values()) == {SnapshotState.WHOLE}
        # data.keep keeps one, so the other went as a whole one.
        assert killed.snapshot_id not in states


@pytest.mark.parametrize(
    "gone", [*(pytest.param(one, marks=pytest.mark.campaign) for one in ("nothing", "parts", "all")), "manifest"]
)
async def test_a_retention_that_was_killed_is_finished_and_offers_nothing_that_it_had_begun_to_delete(
    installations: Installations, gone: str
) -> None:
    with installations.at("one") as stores:
        old = await installations.save(stores, "old")
        await installations.save(stores, "begun", until="part")
        stores.snapshots.begin_deletion([old.snapshot_id])
        repository = installations.repository()
        is_gone = {"nothing": (), "parts": (False,), "manifest": (True,), "all": (False, True)}[gone]
        entries = [entry for entry in repository.entries(Limit(60)) if entry.snapshot_id == old.snapshot_id]
        repository.forget([entry.restic_id for entry in entries if entry.is_manifest in is_gone], Limit(60))

        with pytest.raises(NotFoundError):
            choose_snapshot(stores.snapshots.list_for("shop"), old.snapshot_id, "shop")
        assert await unknown_snapshots(installations.environment) == []
        new = await installations.save(stores, "new")

        assert [one for one in stores.snapshots.list_for("shop") if one.state is SnapshotState.WHOLE] == [new]
        assert old.snapshot_id not in {one.snapshot_id for one in stores.snapshots.list_for("shop")}
        assert {entry.snapshot_id for entry in repository.entries(Limit(60))} == {new.snapshot_id}


async def test_a_part_is_read_to_its_end_before_anything_is_stopped(installations: Installations) -> None:
    with installations.at("one") as stores:
        (part,) = (await installations.save(stores, "whole")).parts
        await check_part.fn(installations.environment, part, "s-1")
        with pytest.raises(SnapshotError, match=r"db/shop has 6 bytes in the repository, 7 were saved"):
            await check_part.fn(installations.environment, replace(part, bytes=7), "s-1")
        for pack in (installations.folder / "repository" / "data").glob("*/*"):
            pack.chmod(0o600)
            pack.write_bytes(bytes(byte ^ 1 for byte in pack.read_bytes()))
        with pytest.raises(SnapshotError, match="reading db/shop"):
            await check_part.fn(installations.environment, part, "s-1")


@pytest.mark.campaign
async def test_what_an_earlier_version_saved_stays_and_can_be_adopted(installations: Installations) -> None:
    with installations.at("one") as stores:
        repository = installations.repository()
        old = Command(
            what="an earlier version",
            arguments=("restic", "--no-cache", "backup", "--host", "shop", "--tag", "roas,s-old", "--stdin",
                       "--stdin-filename", "db_shop"),
            variables={**repository._variables, "PATH": os.environ["PATH"]},
        )  # fmt: skip
        stream(Command(what="the source", arguments=("echo", "old")), old, Limit(60))
        await installations.save(stores, "new")
        (adopted,) = await adopt_snapshots(installations.environment, ["s-old"])
        await forget_old.fn(installations.environment)
        assert installations.texts() == {"old", "new"}
        assert (adopted.reason, adopted.parts[0].name, adopted.parts[0].bytes) == ("adopted", "db/shop", 4)


@pytest.mark.campaign
async def test_a_damaged_repository_names_another_whole_snapshot_and_the_check_of_restic(
    installations: Installations,
) -> None:
    with installations.at("one") as stores:
        whole = []
        for text in ("first", "second"):
            snapshot = await installations.save(stores, text, until="manifest")
            await end_snapshot(snapshot)
            whole.append(snapshot)
        first, second = whole
        for pack in (installations.folder / "repository" / "data").glob("*/*"):
            pack.chmod(0o600)
            pack.write_bytes(bytes(reversed(pack.read_bytes())))

        with pytest.raises(DamagedRepositoryError) as raised:
            await check_part.fn(installations.environment, second.parts[0], second.snapshot_id)

        assert f"check --read-data` says where. Snapshot {first.snapshot_id}" in raised.value.advice
        assert f"roas snapshot rehearse shop {first.snapshot_id}" in raised.value.advice
        assert "Can this user" not in raised.value.advice
