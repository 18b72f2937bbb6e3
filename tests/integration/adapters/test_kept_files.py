"""Files that releases keep: sealed, unsealed for a mount, and removed, on a real file system."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import closing
from pathlib import Path

import pytest

from adapters.host.fingerprints import Fingerprints
from adapters.host.kept_files import KeptFiles, is_copy, read_entries, time_of_change
from adapters.stores.data_folder import narrow_access
from core.deployment.kept_files import MOST_BYTES, MOST_FILES

TEXT = "listen 8080; # sealed-in-this-release"
DIGEST = "00112233aabbccdd"


def kept_in(folder: Path, environment: str = "shop") -> KeptFiles:
    return KeptFiles(folder, environment, Fingerprints(folder))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    file = tmp_path / "nginx.conf"
    file.write_text(TEXT)
    file.chmod(0o640)
    return file


def modes(folder: Path) -> dict[str, int]:
    return {str(one.relative_to(folder)): stat.S_IMODE(one.lstat().st_mode) for one in folder.rglob("*")}


def test_a_file_is_sealed_and_a_copy_has_its_content_and_mode(data: Path, conf: Path) -> None:
    kept = kept_in(data)
    kept.seal(DIGEST, read_entries(conf))
    conf.write_text("something else")

    copy = kept.copy_out(DIGEST, conf)

    assert copy is not None
    assert copy.read_text() == TEXT
    assert modes(data)["sealed"] == modes(data)["mounted"] == 0o700
    assert modes(data)[f"sealed/shop/{DIGEST}"] == 0o600
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert copy.name == conf.name
    assert is_copy(data, str(copy))
    assert not is_copy(data, str(conf))
    assert conf.read_text() == "something else"
    holding = [one for one in data.rglob("*") if one.is_file() and b"sealed-in-this-release" in one.read_bytes()]
    assert holding == [copy]


def test_a_copy_is_made_once_and_anew_where_a_container_changed_it(data: Path, conf: Path) -> None:
    kept = kept_in(data)
    kept.seal(DIGEST, read_entries(conf))
    first = kept.copy_out(DIGEST, conf)
    assert first is not None
    inode = first.stat().st_ino

    assert kept.copy_out(DIGEST, conf) == first
    assert first.stat().st_ino == inode
    first.write_text("changed in the container")
    assert kept.copy_out(DIGEST, conf) == first
    assert first.read_text() == TEXT


def test_a_folder_keeps_its_links_and_modes(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    (folder / "sites").mkdir(parents=True)
    (folder / "sites" / "a.conf").write_text("a")
    (folder / "sites" / "a.conf").chmod(0o444)
    (folder / "enabled").symlink_to("sites/a.conf")
    (folder / "absolute").symlink_to("/etc/nginx/sites/a.conf")
    folder.chmod(0o755)
    (tmp_path / "current").symlink_to("conf.d")
    kept = kept_in(data)
    kept.seal(DIGEST, read_entries(tmp_path / "current"))

    copy = kept.copy_out(DIGEST, folder)

    assert copy is not None
    assert modes(copy) == modes(folder)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o755
    assert (copy / "enabled").read_text() == "a"
    assert (copy / "absolute").readlink() == Path("/etc/nginx/sites/a.conf")
    assert not kept.differs(DIGEST, folder)


def test_another_mode_or_owner_on_disk_is_a_difference(data: Path, conf: Path) -> None:
    kept = kept_in(data)
    kept.seal(DIGEST, read_entries(conf))
    assert not kept.differs(DIGEST, conf)
    conf.chmod(0o600)
    assert kept.differs(DIGEST, conf)
    assert not kept.differs("ffffffffffffffff", conf)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_copy_belongs_to_the_owner_of_the_original(data: Path, conf: Path) -> None:
    os.chown(conf, 101, 102)
    kept = kept_in(data)
    kept.seal(DIGEST, read_entries(conf))
    copy = kept.copy_out(DIGEST, conf)
    assert copy is not None
    assert (copy.stat().st_uid, copy.stat().st_gid) == (101, 102)
    assert not narrow_access(data, thorough=True).faults
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640


def test_what_is_large_special_or_not_there_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * (MOST_BYTES + 1))
    os.mkfifo(tmp_path / "fifo")
    many = tmp_path / "many"
    many.mkdir()
    for number in range(MOST_FILES):
        (many / f"{number}").touch()
    with_socket = tmp_path / "with-socket"
    with_socket.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(with_socket / "s"))
        for path in (tmp_path / "large", tmp_path / "fifo", many, with_socket, tmp_path / "absent"):
            with pytest.raises(OSError):
                read_entries(path)


def test_another_installation_and_damage_open_nothing(data: Path, conf: Path, tmp_path: Path) -> None:
    kept = kept_in(data)
    kept.seal(DIGEST, read_entries(conf))
    sealed = data / "sealed" / "shop" / DIGEST
    other = tmp_path / "other"
    kept_in(other).seal(DIGEST, read_entries(conf))
    (other / "sealed" / "shop" / DIGEST).write_bytes(sealed.read_bytes())
    assert kept_in(other).copy_out(DIGEST, conf) is None
    # One file under the name of another would bring back what was never mounted there.
    sealed.rename(sealed.with_name("ffffffffffffffff"))
    assert kept.copy_out("ffffffffffffffff", conf) is None
    sealed.write_bytes(b"\x00 nonsense")
    assert kept.copy_out(DIGEST, conf) is None
    kept.seal(DIGEST, read_entries(conf))
    assert kept.copy_out(DIGEST, conf) is not None


def test_copies_that_a_container_mounts_stay(data: Path, conf: Path) -> None:
    kept, others = kept_in(data), kept_in(data, "other")
    for one in (kept, others):
        one.seal(DIGEST, read_entries(conf))
        one.seal("ffffffffffffffff", read_entries(conf))
    mounted = kept.copy_out(DIGEST, conf)
    unused, foreign = kept.copy_out("ffffffffffffffff", conf), others.copy_out(DIGEST, conf)
    assert mounted is not None
    assert unused is not None
    assert foreign is not None
    # What a process that was killed has left.
    (data / "mounted" / "shop" / ".left" / "new").mkdir(parents=True)

    kept.sweep_copies({str(mounted)})

    assert mounted.exists()
    assert foreign.exists()
    assert not unused.exists()
    assert [one.name for one in (data / "mounted" / "shop").iterdir()] == [DIGEST]


def test_what_no_release_names_stays_for_a_while(data: Path, conf: Path) -> None:
    kept = kept_in(data)
    for digest in ("a", "b", "c"):
        kept.seal(digest, read_entries(conf))
    for digest in ("a", "b"):
        os.utime(data / "sealed" / "shop" / digest, (0, 0))

    kept.sweep_sealed({"a"})
    assert kept.digests() == {"a", "c"}
    kept.sweep_sealed({"a"})
    assert kept.digests() == {"a", "c"}
    kept.sweep_sealed((), at_once=True)
    assert kept.digests() == frozenset()


def test_the_kernel_says_when_a_file_changed(conf: Path) -> None:
    before = time_of_change(conf)
    os.utime(conf, (0, 0))
    assert time_of_change(conf) >= before > 0
