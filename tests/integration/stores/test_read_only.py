"""A folder this user may not write to: a clear error, and nothing lost that was accepted."""

import multiprocessing
import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.stores import Stores
from adapters.stores.batch import BatchWriter
from models.failures import StoreError
from models.settings import Settings
from tests.integration.stores.test_batch import details, numbers, put

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's own folder, which only its owner may enter.
    made = Path(tempfile.mkdtemp(prefix="roas-read-only-"))
    with Stores.open(Settings(data_dir=made / "data")):
        pass
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (made, *made.rglob("*")):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    try:
        yield made
    finally:
        shutil.rmtree(made)


def as_a_user(work: Callable[[Path], None], folder: Path) -> str:
    """Do it in a process of a user whom modes bind, unlike root; what StoreError it raised."""
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    child = context.Process(target=_as_nobody, args=(work, folder, answers))
    child.start()
    child.join()
    assert child.exitcode == 0
    return str(answers.get())


def _as_nobody(work: Callable[[Path], None], folder: Path, answers) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setgid(nobody.pw_gid)
        os.setuid(nobody.pw_uid)
    try:
        work(folder)
    except StoreError as error:
        answers.put(str(error))
    else:
        answers.put("")
    os._exit(0)


def accept_rows(folder: Path) -> None:
    writer = BatchWriter(Stores.open(Settings(data_dir=folder / "data")), batch_size=1000)
    put(writer, *range(7))


def open_and_write(folder: Path) -> None:
    with Stores.open(Settings(data_dir=folder / "data")) as stores:
        stores.heartbeats.beat("x", NOON)


def look(folder: Path) -> None:
    with Stores.open(Settings(data_dir=folder / "data")) as stores, BatchWriter(stores):
        pass
    with Stores.open(Settings(data_dir=folder / "data")) as stores:
        assert details(stores) == numbers(7)


def forbid(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def allow(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_folder_that_became_read_only_is_reported_and_what_was_accepted_goes_in_later(folder: Path) -> None:
    assert as_a_user(accept_rows, folder) == ""
    forbid(folder / "data")
    assert "may this user write to the data folder" in as_a_user(open_and_write, folder)
    allow(folder / "data")
    assert as_a_user(look, folder) == ""


def test_a_folder_that_may_not_be_made_is_reported(folder: Path) -> None:
    folder.chmod(0o555)
    assert "set ROAS_DATA_DIR" in as_a_user(open_and_write, folder / "inside")


def test_a_journal_that_may_not_be_made_is_reported(folder: Path) -> None:
    (folder / "data").chmod(0o555)
    assert "may this user write to the data folder" in as_a_user(accept_rows, folder)
