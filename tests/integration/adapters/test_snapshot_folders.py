"""Files of a volume that restic reads itself where the volume's folder is surely on this machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.docker.scratch import scratch_body
from adapters.snapshots.containers import EngineCommands
from adapters.snapshots.own_pauses import OwnPauses
from adapters.snapshots.parts import PartClient
from adapters.snapshots.places import PartPlace
from adapters.snapshots.restic import ResticRepository
from adapters.snapshots.streams import Limit
from core.runtime.broker_policy import examine, make_policy
from models.failures import RequestRefusedError, SnapshotError
from models.snapshots import FilesData
from tests.support.docker_command import docker_command
from tests.support.restic_repository import PASSWORD, copy_repository

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root reads the folders of volumes"),
]

IMAGE = "debian:trixie-slim"
VARIABLES = {"PATH": os.environ["PATH"], "HOME": str(Path.home())}
LOCAL = {**VARIABLES, "DOCKER_HOST": os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")}
DATA = FilesData(kind="files", volume="files")


@pytest.fixture
def volume() -> Iterator[str]:
    name = f"roas-test-folder-{secrets.token_hex(4)}"
    docker_command("volume", "create", name)
    yield name
    docker_command("volume", "rm", "-f", name)


def client(folder: Path, variables: dict[str, str]) -> PartClient:
    if not (folder / "repository").exists():
        copy_repository(folder / "repository")
    repository = ResticRepository(str(folder / "repository"), PASSWORD, "shop", "one", VARIABLES)
    limit = Limit(120)
    repository.prepare(limit)
    containers = EngineCommands(variables, "s-1", limit)
    return PartClient(
        containers=containers, repository=repository, limit=limit, folder=folder, pauses=OwnPauses(folder, "shop")
    )


def fill(folder: Path, value: str) -> None:
    (folder / "a b").mkdir(exist_ok=True)
    (folder / "a b" / f"only {value}").write_text(value * 1000)
    (folder / f".hidden-{value}").touch()
    (folder / "link").unlink(missing_ok=True)
    (folder / "link").symlink_to(f"a b/only {value}")
    os.chown(folder / "a b" / f"only {value}", 1234, 4321)
    (folder / "a b" / f"only {value}").chmod(0o640)


def held(folder: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for one in sorted(folder.rglob("*")):
        state = one.lstat()
        content = one.read_bytes() if one.is_file() else b""
        found.append((str(one.relative_to(folder)), state.st_mode, state.st_uid, state.st_gid, content))
    return found


@pytest.mark.parametrize(
    ("loaded_by", "saved_by"),
    [
        pytest.param(LOCAL, LOCAL, id="folder-folder"),
        pytest.param(VARIABLES, VARIABLES, id="stream-stream"),
        pytest.param(LOCAL, VARIABLES, id="folder-stream", marks=pytest.mark.campaign),
        pytest.param(VARIABLES, LOCAL, id="stream-folder", marks=pytest.mark.campaign),
    ],
)
def test_files_come_back_whichever_way_they_are_reached(
    volume: str, tmp_path: Path, saved_by: dict[str, str], loaded_by: dict[str, str]
) -> None:
    saving, loading = client(tmp_path, saved_by), client(tmp_path, loaded_by)
    folder = folder_of(volume)
    fill(folder, "before")
    was, place = held(folder), PartPlace(container="", image=IMAGE, source=volume)

    part = saving.save(DATA, place, "s-1")
    for one in folder.iterdir():
        one.rename(folder / f"{one.name}-moved")
    fill(folder, "after")
    counted = loading.files.read(part)
    loading.load(DATA, part, place)

    assert ("folder" in part.facts) is (saved_by is LOCAL)
    assert (part.facts["files"], part.facts["file_bytes"]) == (2, 6000)
    assert counted == "2 files, 6,000 bytes"
    assert held(folder) == was
    assert [one.name for one in folder.parent.iterdir()] == ["_data"]


def folder_of(volume: str) -> Path:
    inspected = ["docker", "volume", "inspect", "-f", "{{.Mountpoint}}", volume]
    return Path(subprocess.run(inspected, check=True, capture_output=True, text=True).stdout.strip())


def test_files_are_read_by_a_container_that_mounts_them_where_no_other_may_be_made(volume: str, tmp_path: Path) -> None:
    mount, run = f"{volume}:/srv/files", ("docker", "run", "-d", "--rm", "--init", "--network", "none")
    made = subprocess.run([*run, "-v", mount, IMAGE, "sleep", "600"], check=True, capture_output=True, text=True)
    container, folder = made.stdout.strip(), folder_of(volume)
    programs = tmp_path / "programs"
    programs.mkdir()
    # As the broker answers, so that what the programs make of it is tested.
    refusing = 'case $1 in create|run) echo "engine broker: it has no label" >&2; exit 1;; esac; exec "$DOCKER" "$@"'
    (programs / "docker").write_text(f"#!/bin/sh\nDOCKER={shutil.which('docker')}\n{refusing}\n")
    (programs / "docker").chmod(0o755)
    behind = client(tmp_path, VARIABLES | {"PATH": f"{programs}:{VARIABLES['PATH']}"})
    place = PartPlace(container=container, image=IMAGE, source=volume, mounted_at="/srv/files")
    try:
        fill(folder, "before")
        part = behind.save(DATA, place, "s-1")
        assert behind.files.read(part) == "2 files, 6,000 bytes"
        with pytest.raises(SnapshotError, match="the engine broker allows no container for that"):
            behind.load(DATA, part, place)
        with pytest.raises(SnapshotError, match="cannot be saved behind the engine broker"):
            behind.save(DATA, PartPlace(container="", image=IMAGE, source=volume), "s-2")
    finally:
        docker_command("rm", "-f", container)


def test_containers_that_a_killed_process_left_are_removed(tmp_path: Path) -> None:
    mine, other = f"s-{secrets.token_hex(4)}", f"s-{secrets.token_hex(4)}"

    def make(label: str, *more: str) -> str:
        words = ["docker", *more, "--init", "--network", "none", "--label", f"com.roas.snapshot={label}", IMAGE]
        made = subprocess.run([*words, "sleep", "600"], check=True, capture_output=True, text=True)
        return made.stdout.strip()

    gone = {make(mine, "create"), make(f"rehearsal-{mine}", "run", "-d")}
    # A script that switches files runs to its end.
    stay = {make(mine, "run", "-d"), make(other, "create")}
    try:
        client(tmp_path, LOCAL).containers.remove_left({mine})

        listed = subprocess.run(["docker", "ps", "-aq", "--no-trunc"], check=True, capture_output=True, text=True)
        assert stay <= set(listed.stdout.split())
        assert not gone & set(listed.stdout.split())
    finally:
        subprocess.run(["docker", "rm", "-fv", *gone, *stay], check=False, capture_output=True)


def test_the_broker_allows_a_copy_of_a_container_for_a_rehearsal(volume: str) -> None:
    project = ("--label", "com.docker.compose.project=shop", "--label", "com.docker.compose.service=db")
    words = ["docker", "create", *project, "--volume", f"{volume}:/srv/files", "--memory", "100m", IMAGE, "true"]
    container = subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
    try:
        inspected = subprocess.run(["docker", "inspect", container], check=True, capture_output=True, text=True)
    finally:
        docker_command("rm", "-fv", container)

    body = scratch_body(json.loads(inspected.stdout)[0], ("com.roas.snapshot", "rehearsal-s-1"))

    assert body["Labels"]["com.docker.compose.oneoff"] == "True"
    examine("POST", "/v1.45/containers/create", json.dumps(body).encode(), make_policy(["shop"], []))
    with pytest.raises(RequestRefusedError):
        examine("POST", "/v1.45/containers/create", json.dumps(body).encode(), make_policy(["wiki"], []))


def test_what_was_written_since_is_counted(volume: str, tmp_path: Path) -> None:
    folder, place = folder_of(volume), PartPlace(container="", image=IMAGE, source=volume)
    fill(folder, "before")
    part = client(tmp_path, LOCAL).save(DATA, place, "s-1")
    since = datetime.now(UTC)
    (folder / "one").write_bytes(bytes(2048))
    os.utime(folder / "one", (0, 0))

    by_folder = client(tmp_path, LOCAL).changes(DATA, part, place, since)
    by_container = client(tmp_path, VARIABLES).changes(DATA, part, place, since - timedelta(minutes=1))

    assert by_folder == "1 file (2.0 KiB) added or changed; 2 files then, 3 now"
    assert by_container.endswith("added or changed; 2 files then, 3 now")


def test_an_empty_volume_is_saved_and_comes_back(volume: str, tmp_path: Path) -> None:
    one, place = client(tmp_path, LOCAL), PartPlace(container="", image=IMAGE, source=volume)
    folder = folder_of(volume)
    part = one.save(DATA, place, "s-1")
    fill(folder, "after")

    one.load(DATA, part, place)

    assert one.files.read(part) == "0 files, 0 bytes"
    assert held(folder) == []


def test_a_volume_that_mounts_another_file_system_is_not_read_by_its_folder(tmp_path: Path) -> None:
    name = f"roas-test-folder-{secrets.token_hex(4)}"
    options = ("--opt", "type=tmpfs", "--opt", "device=tmpfs")
    docker_command("volume", "create", *options, name)
    try:
        assert client(tmp_path, LOCAL).containers.folder_of(name) is None
        assert client(tmp_path, LOCAL).containers.folder_of("/srv") is None
    finally:
        docker_command("volume", "rm", "-f", name)


def test_all_that_a_snapshot_paused_goes_on_also_where_the_snapshot_is_cancelled(
    volume: str, tmp_path: Path, sleepers: tuple[str, ...]
) -> None:
    programs, begun = tmp_path / "programs", tmp_path / "begun"
    programs.mkdir()
    os.mkfifo(begun)
    (programs / "restic").write_text(f"#!/bin/sh\necho >{begun}\nexec sleep 600\n")
    (programs / "restic").chmod(0o755)
    slow = VARIABLES | {"PATH": f"{programs}:{VARIABLES['PATH']}"}
    repository = ResticRepository(str(tmp_path / "repository"), PASSWORD, "shop", "one", slow)
    saving = replace(client(tmp_path, LOCAL), repository=repository)
    seen: list[str] = []

    def cancel() -> None:
        begun.read_bytes()
        seen.extend(map(state_of, sleepers))
        saving.limit.cancelled.set()

    cancelling = threading.Thread(target=cancel)
    cancelling.start()
    with pytest.raises(SnapshotError, match="was cancelled"):
        saving.save(DATA, PartPlace(container="", image=IMAGE, source=volume, pause=sleepers), "s-1")
    cancelling.join()

    assert (seen, [*map(state_of, sleepers)]) == (["paused"] * 2, ["running"] * 2)
    assert saving.pauses.left_pauses() == {}


def test_a_pause_that_the_engine_does_not_end_is_said_and_remembered(
    volume: str, tmp_path: Path, sleepers: tuple[str, ...]
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    refusing = '[ "$1" != unpause ] || { echo "the engine is busy" >&2; exit 1; }; exec "$DOCKER" "$@"'
    (programs / "docker").write_text(f"#!/bin/sh\nDOCKER={shutil.which('docker')}\n{refusing}\n")
    (programs / "docker").chmod(0o755)
    saving = client(tmp_path, LOCAL | {"PATH": f"{programs}:{LOCAL['PATH']}"})

    with pytest.raises(SnapshotError, match=f"{sleepers[0][:12]} {sleepers[1][:12]} stayed paused"):
        saving.save(DATA, PartPlace(container="", image=IMAGE, source=volume, pause=sleepers), "s-1")

    assert (saving.pauses.left_pauses(), state_of(sleepers[0])) == (saving.containers.start_times(sleepers), "paused")
    assert set(saving.pauses.left_pauses()) == set(sleepers)


@pytest.fixture
def sleepers() -> Iterator[tuple[str, ...]]:
    run = ["docker", "run", "-d", "--rm", "--init", "--network", "none", IMAGE, "sleep", "600"]
    started = [subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip() for _ in range(2)]
    yield tuple(started)
    docker_command("rm", "-f", *started)


def state_of(container: str) -> str:
    shown = ["docker", "inspect", "-f", "{{.State.Status}}", container]
    return subprocess.run(shown, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("content", ['"abc"', "5", '{"abc": 1}', "[", '["abc"]'])
def test_a_note_of_pauses_that_is_none_names_no_container(tmp_path: Path, content: str) -> None:
    pauses = OwnPauses(tmp_path, "shop")
    (tmp_path / "paused" / "shop" / "folder.json").mkdir(parents=True)
    (tmp_path / "paused" / "shop" / "s-1.json").write_text(content)

    assert pauses.left_pauses() == {}
    pauses.forget()
