"""What a release keeps of the files that its containers mount, with real stores."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.host.fingerprints import Fingerprints
from models.compose import Application, Mount, MountKind, ServiceDeclaration
from models.environments import Environment
from models.records import Release
from tasks.deployment.kept_files import files_to_mount, keep_files, kept_digests, sweep_kept_files
from tasks.runtime.project import Project
from tasks.runtime.stores import open_stores

pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def environment(**more: object) -> Environment:
    fields = {"name": "shop", "project": "roas-test-kept-files", "compose_files": ["compose.yaml"]}
    return Environment.model_validate(fields | more)


def files(folder: Path) -> dict[str, Path]:
    found = {name: folder / name for name in ("app.conf", "app.db", "tls.conf", "late.conf", "gone.conf")}
    for name, path in found.items():
        path.write_text(f"-----BEGIN CERTIFICATE-----\n{name}" if name == "tls.conf" else name)
    return found


def application(paths: dict[str, Path]) -> Application:
    mounts = tuple(
        Mount(kind=MountKind.BIND, source=str(path), target=f"/mounted/{name}") for name, path in paths.items()
    )
    return Application(project="shop", services={"web": ServiceDeclaration(name="web", image="x", mounts=mounts)})


def release(paths: dict[str, Path], data: Path, now: datetime) -> Release:
    prints = Fingerprints(data).fingerprint_mounted_files(application(paths))["web"]
    return Release(release_id="r-1", environment="shop", deployment_id="d-1", created_at=now, proven=True, files=prints)


def test_what_is_configuration_and_was_proven_is_kept(tmp_path: Path, data: Path) -> None:
    paths = files(tmp_path)
    began = datetime.now(UTC) + timedelta(seconds=1)
    one = release(paths, data, began)
    # Since the look at it, and since the operation began.
    paths["gone.conf"].unlink()
    paths["late.conf"].write_text("another")

    keep_files(Project(environment()), application(paths), one, began)

    assert kept_digests(environment()) == {one.files[str(paths["app.conf"])]}
    keep_files(Project(environment()), application(paths), one, began - timedelta(days=1))
    assert kept_digests(environment()) == {one.files[str(paths["app.conf"])]}
    assert kept_digests(environment(engine="tcp://ops.example:2376")) == frozenset()


def test_a_file_that_was_written_after_the_operation_began_is_not_known_to_be_proven(
    tmp_path: Path, data: Path
) -> None:
    paths = files(tmp_path)
    began = datetime.now(UTC) - timedelta(seconds=60)
    keep_files(Project(environment()), application(paths), release(paths, data, began), began)
    assert kept_digests(environment()) == frozenset()


def test_an_engine_on_another_machine_keeps_and_mounts_nothing(tmp_path: Path, data: Path) -> None:
    paths = files(tmp_path)
    one = release(paths, data, datetime.now(UTC))
    paths["app.conf"].write_text("another")
    found = files_to_mount(Project(environment(engine="tcp://ops.example:2376")), one)
    assert (found.copies, found.lacking) == ({}, ())


def test_what_releases_name_stays_and_nothing_does_where_nothing_shall_be_kept(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {"app.conf": files(tmp_path)["app.conf"]}
    now = datetime.now(UTC) + timedelta(seconds=1)
    one = release(paths, data, now)
    keep_files(Project(environment()), application(paths), one, now)
    open_stores().releases.keep(one)
    (sealed,) = (data / "sealed" / "shop").iterdir()
    left = sealed.with_name("00112233aabbccdd")
    left.write_bytes(b"of a release that left")
    for file in (sealed, left):
        os.utime(file, (0, 0))

    sweep_kept_files()
    assert kept_digests(environment()) == {sealed.name}

    monkeypatch.setenv("ROAS_KEEP_FILES", "false")
    keep_files(Project(environment()), application(paths), one, now)
    assert not sealed.exists()
