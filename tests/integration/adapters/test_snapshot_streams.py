"""Streams into a real repository of restic: complete or not there, and failures that say what to do."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.snapshots.restic import (
    ResticRepository,
    generated_password,
    readable,
    repository_failure,
    restic_problem,
)
from adapters.snapshots.streams import Command, Ended, Limit, StreamFailedError, inspected_stream, read, run, stream
from core.storage.tar_check import TarCheck
from models.failures import BadInputError, SnapshotError
from tests.support.restic_repository import PASSWORD, copy_repository
from tests.support.small_disk import small_disk  # noqa: F401 - a fixture

PATHS = {"PATH": os.environ["PATH"]}


def command(script: str) -> Command:
    return Command(what="the source", arguments=("sh", "-c", script))


def limit(seconds: float = 300) -> Limit:
    return Limit(seconds)


@pytest.fixture
def repository(tmp_path: Path) -> ResticRepository:
    copy_repository(tmp_path / "repository")
    made = ResticRepository(str(tmp_path / "repository"), PASSWORD, "shop", "one", PATHS)
    made.prepare(limit())
    return made


def test_a_stream_comes_back_as_it_was(repository: ResticRepository, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "content").write_bytes(content)
    source = Command(what="the source", arguments=("cat", str(tmp_path / "content")))

    saved = repository.parse_saved(stream(source, repository.receiver("db/shop", "s-1"), limit()))
    back = bytearray()
    count = read(repository.source("db/shop", saved.restic_id), limit(), back.extend)

    assert bytes(back) == content
    assert saved.bytes == count == len(content)
    assert saved.added_bytes > len(content)
    assert [(one.restic_id, one.snapshot_id) for one in repository.entries(limit())] == [(saved.restic_id, "s-1")]
    repository.forget([saved.restic_id], limit())
    assert repository.entries(limit()) == []
    repository.check(limit())


def test_a_source_that_fails_leaves_nothing(repository: ResticRepository) -> None:
    with pytest.raises(StreamFailedError, match="the source failed with exit code 3: out of memory"):
        stream(command("head -c 500000 /dev/zero; echo out of memory >&2; exit 3"),
               repository.receiver("a", "s-1"), limit())  # fmt: skip
    assert repository.entries(limit()) == []


def test_an_archive_that_ends_early_leaves_nothing(repository: ResticRepository, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    check = TarCheck()
    with pytest.raises(SnapshotError, match="became shorter"):
        inspected_stream(command(f"tar -C {tmp_path} -cf - file | head -c 60000"), repository.receiver("a", "s-1"),
                         limit(), check)  # fmt: skip
    assert repository.entries(limit()) == []


@pytest.mark.parametrize("size", [10, 511, 65_536, 1_500_000])
def test_an_archive_passes_as_it_is_while_its_files_are_counted(tmp_path: Path, size: int) -> None:
    for number in range(5):
        (tmp_path / f"file {number}").write_bytes(os.urandom(size + number))
    archive = f"cd {tmp_path} && tar -cf - --format=gnu file*"
    check, received = TarCheck(), tmp_path / "received"
    expected = run(command(f"{archive} | sha256sum"), limit()).output.split()[0]

    printed = inspected_stream(command(archive), command(f"tee {received} | sha256sum"), limit(), check)

    assert printed.split()[0] == expected
    assert (check.files, check.bytes) == (5, 5 * size + 10)


def test_programs_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    script = (
        "from adapters.snapshots.streams import *\n"
        "one = Command(what='', arguments=('yes',))\n"
        f"stream(one, Command(what='', arguments=('sh', '-c', 'echo $$ > {tmp_path}/pid; exec cat >/dev/null')), "
        "Limit(300))"
    )
    caller = subprocess.Popen([sys.executable, "-c", script])
    written = tmp_path / "pid"
    while not written.exists() or not written.read_text():
        assert caller.poll() is None
        time.sleep(0.02)
    group = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()

    caller.kill()
    caller.wait()

    assert written.read_text().strip() in group
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{child}").exists() and "State:\tZ" not in status_of(child) for child in group):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def status_of(process: str) -> str:
    try:
        return Path(f"/proc/{process}/status").read_text()
    except OSError:
        return "State:\tZ"


def test_a_receiver_never_reads_the_end_of_a_part(tmp_path: Path) -> None:
    # As psql does: what is between the first and the last words counts once the last are there.
    receiver = command(f"cat > {tmp_path}/got; touch {tmp_path}/ended")
    with pytest.raises(StreamFailedError):
        stream(command("echo part; exit 1"), receiver, limit(), before=b"BEGIN;", after=b"COMMIT;")
    assert not (tmp_path / "ended").exists()
    assert b"COMMIT" not in (tmp_path / "got").read_bytes()

    stream(command("echo whole"), receiver, limit(), before=b"BEGIN;", after=b"COMMIT;")
    assert (tmp_path / "got").read_bytes() == b"BEGIN;whole\nCOMMIT;"


def test_a_receiver_that_ends_first_is_named() -> None:
    receiver = Command(what="the receiver", arguments=("sh", "-c", "echo disk is full >&2; exit 5"))
    with pytest.raises(StreamFailedError, match="the receiver failed with exit code 5: disk is full"):
        stream(command("cat /dev/zero"), receiver, limit())


def test_a_receiver_that_says_why_it_fails_and_hangs_is_ended() -> None:
    words = '{"message_type":"exit_error","code":1,"message":"Fatal: unable to save snapshot: no space left on device"}'
    receiver = Command(what="restic", arguments=("sh", "-c", f"cat > /dev/null; echo '{words}' >&2; sleep 300"))
    with pytest.raises(StreamFailedError, match="no space left on device"):
        stream(command("echo whole"), receiver, limit())


def test_programs_end_where_nobody_waits_for_them(tmp_path: Path) -> None:
    waiting, written = limit(), tmp_path / "pid"

    def nobody_waits() -> None:
        while not written.exists() or not written.read_text():
            time.sleep(0.02)
        waiting.cancelled.set()

    threading.Thread(target=nobody_waits, daemon=True).start()
    with pytest.raises(SnapshotError, match="was cancelled"):
        run(command(f"sleep 300 & echo $! > {written}; wait"), waiting)
    child = int(written.read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and "State:\tZ" not in Path(f"/proc/{child}/status").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_one_that_takes_too_long_is_ended() -> None:
    with pytest.raises(SnapshotError, match=r"the source did not end in time.*data\.timeout_seconds"):
        read(command("sleep 300"), limit(0.3), lambda _: None)


def other_password(folder: Path) -> ResticRepository:
    ResticRepository(str(folder / "repository"), "a password", "shop", "one", PATHS).prepare(limit())
    return ResticRepository(str(folder / "repository"), "another", "shop", "one", PATHS)


def file_in_the_way(folder: Path) -> ResticRepository:
    (folder / "file").write_text("")
    return ResticRepository(str(folder / "file" / "repository"), "a password", "shop", "one", PATHS)


def without_restic(folder: Path) -> ResticRepository:
    return ResticRepository(str(folder / "repository"), "a password", "shop", "one", {"PATH": str(folder)})


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (other_password, SnapshotError, "The password does not open the repository .*data.password_secret"),
        (file_in_the_way, BadInputError, "for snapshots cannot be made: Not a directory.*data.repository"),
        (without_restic, SnapshotError, "restic is not installed on this machine; .*apt-get install restic"),
    ],
)
def test_a_repository_that_cannot_be_used_says_why(
    make: Callable[[Path], ResticRepository],
    kind: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    repository = make(tmp_path)
    if make is without_restic:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(os, "defpath", str(tmp_path))
    with pytest.raises(kind, match=message):
        repository.prepare(limit())


def test_a_repository_that_is_gone_is_not_made_anew_by_reading(tmp_path: Path) -> None:
    gone = ResticRepository(str(tmp_path / "gone"), "a password", "shop", "one", PATHS)
    with pytest.raises(SnapshotError, match="There is no repository of snapshots"):
        gone.entries(limit())


def test_a_full_disk_is_named(small_disk: Path) -> None:  # noqa: F811
    repository = ResticRepository(str(small_disk / "repository"), "a password", "shop", "one", PATHS)
    repository.prepare(limit())
    with pytest.raises(StreamFailedError) as failed:
        stream(command("head -c 40000000 /dev/urandom"), repository.receiver("a", "s-1"), limit())
    error = readable(failed.value, repository.address)
    assert "no space left on device" in error.what
    assert "Its disk is full" in error.advice


def test_a_generated_password_is_private_and_stays(tmp_path: Path) -> None:
    first = generated_password(tmp_path / "snapshots", "shop")
    assert generated_password(tmp_path / "snapshots", "shop") == first
    assert len(first) > 40
    assert (tmp_path / "snapshots" / "shop.password").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("says", "problem"),
    [
        ("restic 0.18.0 compiled with go1.24.4 on linux/amd64", ""),
        ("restic 0.17.3 compiled with go1.23", ""),
        ("restic 0.16.4 compiled with go1.22", "restic 0.17 or later is needed, and this is restic 0.16"),
        ("a shell", "restic 0.17 or later is needed, and this is of an unknown version"),
        (None, "restic is not installed"),
    ],
)
def test_an_old_restic_is_named(
    says: str | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if says is not None:
        (tmp_path / "restic").write_text(f"#!/bin/sh\necho '{says}'\n")
        (tmp_path / "restic").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    assert restic_problem() == problem


def test_a_program_that_was_killed_is_said_to_be(repository: ResticRepository) -> None:
    with pytest.raises(StreamFailedError, match=r"the source was killed by SIGKILL\.$"):
        stream(command("head -c 500000 /dev/zero; kill -9 $$"), repository.receiver("a", "s-1"), limit())
    short = Ended(exit_code=-9, error="", memory_ran_out=True)

    failure = repository_failure("/srv/snapshots", "read", short)

    assert failure.what == "restic could not read /srv/snapshots: it was killed by the kernel, since memory ran out."
    assert failure.advice.startswith("Give this machine more memory")
    assert repository.entries(limit()) == []
