from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from adapters.host.private_files import make_private_folder, read_regular, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_folder_and_the_parents_it_lacks_are_the_owners_alone(tmp_path: Path) -> None:
    before = mode(tmp_path)
    folder = make_private_folder(tmp_path / "one" / "two")
    assert (mode(folder), mode(folder.parent), mode(tmp_path)) == (0o700, 0o700, before)


def test_a_written_file_is_the_owners_alone_and_replaces_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"old")
    file.chmod(0o644)
    write_private(file, b"new")
    assert (file.read_bytes(), mode(file)) == (b"new", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_reads_a_file_of_exactly_the_size_allowed(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert read_regular(tmp_path / "file", at_most=10) == b"x" * 10


def test_refuses_what_is_too_large_a_device_a_fifo_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 11)
    os.mkfifo(tmp_path / "fifo")
    for path, why in (
        (tmp_path / "large", "larger"),
        (Path("/dev/zero"), "no regular file"),
        (tmp_path / "fifo", "no regular file"),
        (tmp_path, "no regular file"),
    ):
        with pytest.raises(OSError, match=why):
            read_regular(path, at_most=10)
