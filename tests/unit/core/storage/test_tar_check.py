"""A tar archive that is checked while it passes."""

from __future__ import annotations

import io
import tarfile

import pytest

from core.storage.tar_check import TarCheck
from models.failures import SnapshotError


def archive() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as made:
        for number in range(20):
            entry = tarfile.TarInfo(f"./{'long/' * 30 * (number % 2)}{number}")
            entry.size = number * 300
            made.addfile(entry, io.BytesIO(bytes(entry.size)))
        link = tarfile.TarInfo("./link")
        link.type, link.linkname = tarfile.SYMTYPE, "0"
        made.addfile(link)
    return packed.getvalue()


def fed(data: bytes, size: int) -> TarCheck:
    check = TarCheck()
    for at in range(0, len(data), size):
        check.feed(data[at : at + size])
    return check


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1_000_000])
def test_chunks_of_any_size_give_the_same_count(size: int) -> None:
    check = fed(archive(), size)
    check.finish()
    assert (check.files, check.bytes) == (20, sum(number * 300 for number in range(20)))


@pytest.mark.parametrize("left", [700, 5_000, 30_000])
def test_an_archive_that_ends_early_is_refused(left: int) -> None:
    check = fed(archive()[:left], 512)
    with pytest.raises(SnapshotError, match="became shorter"):
        check.finish()


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE])
def test_a_file_of_each_kind_counts(kind: bytes) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as made:
        entry = tarfile.TarInfo("a")
        entry.type, entry.size = kind, 5
        made.addfile(entry, io.BytesIO(b"12345"))

    assert fed(packed.getvalue(), 512).files == 1


def test_what_is_no_archive_is_refused() -> None:
    with pytest.raises(SnapshotError, match="no tar archive"):
        fed(b"this is text, " * 100, 512)
