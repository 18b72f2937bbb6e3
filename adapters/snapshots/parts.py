"""Save, load and question one part of a snapshot: a database or the files of a volume."""

from __future__ import annotations

import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from adapters.snapshots.containers import PUT_FILE, EngineCommands
from adapters.snapshots.files import FilesClient
from adapters.snapshots.own_pauses import OwnPauses
from adapters.snapshots.places import PartPlace
from adapters.snapshots.restic import ResticRepository, Saved, readable
from adapters.snapshots.streams import Command, Limit, StreamFailedError, read, stream
from core.storage.changes import NOT_COUNTED, WRITTEN, counters_in, describe_later_writes, sizes_then_and_now
from core.storage.dumps import (
    NO_SQLITE,
    PASSWORD_VARIABLE,
    counters_command,
    counts_in,
    dump_command,
    load_of,
    question_command,
    ready_command,
    redis_facts,
    redis_facts_command,
    redis_files,
    roles_command,
    rows_command,
)
from models.failures import SnapshotError
from models.snapshots import (
    DatabaseData,
    FilesData,
    MariadbData,
    PostgresqlData,
    RedisData,
    SavedData,
    SnapshotPart,
    SqliteData,
)

_NO_PROGRAM = (126, NO_SQLITE)
_NOT_RUNNING = re.compile(r"(?i)is (?:not running|restarting)")
_ASK_AGAIN_SECONDS = 0.3
_LARGEST = 5
_ROLES = "roles"
"""Fact of a PostgreSQL database: the names of the roles that a load brings back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartClient:
    """What moves parts: containers of one engine, a repository, a limit of time, and a private folder for copies.

    `pauses` is where it is on disk which containers a snapshot has paused.
    """

    containers: EngineCommands
    repository: ResticRepository
    limit: Limit
    folder: Path
    pauses: OwnPauses

    @property
    def files(self) -> FilesClient:
        """The client that moves the files of volumes."""
        return FilesClient(containers=self.containers, repository=self.repository, limit=self.limit, pauses=self.pauses)

    def save(self, data: SavedData, place: PartPlace, snapshot_id: str) -> SnapshotPart:
        """Save a part; a database stays available meanwhile.

        Raises:
            SnapshotError: It could not be saved; nothing of it counts.
        """
        began = time.monotonic()
        try:
            if isinstance(data, FilesData):
                saved, facts = self.files.save(data, place, snapshot_id)
            else:
                saved, facts = self._save_database(data, place, self.repository.receiver(data.name, snapshot_id))
        except StreamFailedError as error:
            raise readable(error, self.repository.address) from error
        return SnapshotPart(
            name=data.name,
            kind=data.kind,
            restic_id=saved.restic_id,
            bytes=saved.bytes,
            added_bytes=saved.added_bytes,
            seconds=round(time.monotonic() - began, 3),
            facts=facts,
        )

    def check(self, part: SnapshotPart) -> None:
        """Read a part from the repository to its end; restic checks the hash of each piece.

        Raises:
            SnapshotError: It cannot be read, or is not what was saved.
        """
        if part.kind == "files":
            self.files.read(part)
            return
        try:
            size = read(self.repository.source(part.name, part.restic_id), self.limit, len)
        except StreamFailedError as error:
            raise readable(error, self.repository.address) from error
        if size != part.bytes:
            raise SnapshotError(f"{part.name} has {size:,} bytes in the repository, {part.bytes:,} were saved.")

    def load(self, data: SavedData, part: SnapshotPart, place: PartPlace) -> None:
        """Put a part back. What uses it must be stopped; a PostgreSQL or MariaDB server itself must run.

        Raises:
            SnapshotError: It could not be put back. Of PostgreSQL, Redis, SQLite and files all is as before then, of
                MariaDB a part may be missing.
        """
        source = self.repository.source(part.name, part.restic_id)
        try:
            match data:
                case PostgresqlData() | MariadbData():
                    how = load_of(data)
                    program = self._inside(data, place, f"loading {data.name}", how.command, with_input=True)
                    stream(source, program, self.limit, before=how.before.encode(), after=how.after.encode())
                case RedisData():
                    files = redis_files(part.facts)
                    self._put(source, place, files.path, files.collect, part, files.manifest, files.manifest_text,
                              *files.remove)  # fmt: skip
                case SqliteData():
                    # A log of the other content would be replayed into this one.
                    beside = (f"{data.file}{end}" for end in ("-wal", "-shm", "-journal"))
                    self._put(source, place, data.file, f"{data.file}.roas-new", part, "", "", *beside)
                case FilesData():
                    self.files.load(data, part, place)
        except StreamFailedError as error:
            raise readable(error, self.repository.address) from error

    def wait_until_ready(self, data: DatabaseData, place: PartPlace, seconds: float) -> None:
        """Wait until a server takes connections.

        Raises:
            SnapshotError: It does not within these seconds, or its container ended.
        """
        program = self._inside(data, place, f"asking {data.service}", ready_command(data))
        deadline = time.monotonic() + seconds
        while (ended := self.containers.ask(program)).exit_code != 0:
            if (code := self.containers.exit_code(place.container)) is not None:
                raise SnapshotError(f"{data.service} takes no connections: it ended with exit code {code}.")
            if time.monotonic() > deadline:
                raise SnapshotError(f"{data.service} takes no connections: {ended.error.strip() or ended.output}.")
            time.sleep(_ASK_AGAIN_SECONDS)

    def question(self, data: PostgresqlData | MariadbData | RedisData, part: SnapshotPart, place: PartPlace) -> str:
        """What a server that loaded a part has: the number of tables, and rows of the largest ones; or its keys.

        Raises:
            SnapshotError: It does not answer, or lacks a role that was saved.
        """
        try:
            printed = self._answer(data, place, question_command(data))
            if isinstance(data, RedisData):
                return f"{int(printed.split()[-1]):,} keys"
            counts = counts_in(printed)
            if isinstance(data, MariadbData):
                tables, largest = len(counts), tuple(counts)[:_LARGEST]
                rows = self._answer(data, place, rows_command(data, largest)) if largest else ""
                counts = counts_in(rows)
            else:
                tables = int(printed.strip().rpartition("\t")[2] or 0)
        except (StreamFailedError, ValueError, IndexError) as error:
            raise SnapshotError(f"{data.name} does not answer what it has: {error}") from error
        rows = ", ".join(f"{name} {count:,}" for name, count in counts.items())
        return f"{tables:,} tables" + (f"; rows: {rows}" if rows else "") + self._roles_of(data, part, place)

    def changes(self, data: SavedData, part: SnapshotPart, place: PartPlace, since: datetime) -> str:
        """What was written since a part was saved, for a person, from what is cheap to know.

        Raises:
            SnapshotError: It cannot be asked.
            OSError: A file cannot be read.
        """
        if isinstance(data, FilesData):
            return self.files.changes(part, place, since)
        if isinstance(data, SqliteData):
            size = self.containers.exec(place.container, f"asking {data.name}", ("wc", "-c", data.file))
            return sizes_then_and_now(part.bytes, int(self.containers.answer(size).split()[0]))
        now = self._counters(data, place).get(WRITTEN)
        return describe_later_writes(data, part.facts.get(WRITTEN), now) if isinstance(now, dict) else NOT_COUNTED

    def _counters(self, data: DatabaseData, place: PartPlace) -> dict[str, object]:
        """A server's counters of what was written, as a fact; none where it does not say."""
        command = counters_command(data)
        with suppress(StreamFailedError, ValueError):
            if command and (counters := counters_in(data, self._answer(data, place, command))):
                return {WRITTEN: counters}
        return {}

    def _answer(self, data: DatabaseData, place: PartPlace, command: tuple[str, ...]) -> str:
        return self.containers.answer(self._inside(data, place, f"asking {data.name}", command))

    def _roles_of(self, data: PostgresqlData | MariadbData, part: SnapshotPart, place: PartPlace) -> str:
        saved: list[str] = part.facts.get(_ROLES) or []
        if not isinstance(data, PostgresqlData) or not saved:
            return ""
        if lacking := sorted(set(saved) - set(self._roles(data, place))):
            raise SnapshotError(f"{data.name} lacks roles that were saved: {', '.join(lacking)}.")
        return f"; {len(saved):,} {'role' if len(saved) == 1 else 'roles'}"

    def _roles(self, data: PostgresqlData, place: PartPlace) -> list[str]:
        return self._answer(data, place, roles_command(data)).splitlines()

    def check_sqlite(self, part: SnapshotPart) -> str:
        """Let SQLite check a saved file.

        Raises:
            SnapshotError: It cannot be read, or has faults.
        """
        with self._private_file() as path:
            with path.open("wb") as file:
                try:
                    read(self.repository.source(part.name, part.restic_id), self.limit, file.write)
                except StreamFailedError as error:
                    raise readable(error, self.repository.address) from error
            try:
                with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as connection:
                    result = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
                    tables = connection.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'table'").fetchone()[0]
            except sqlite3.Error as error:
                raise SnapshotError(f"{part.name} cannot be read: {error}.") from error
        if result != "ok":
            raise SnapshotError(f"{part.name} has faults: {result}.")
        return f"integrity ok, {tables:,} tables"

    def _save_database(
        self, data: DatabaseData, place: PartPlace, receiver: Command
    ) -> tuple[Saved, dict[str, object]]:
        # Asked while the dump runs: each question is a program that the engine starts.
        with ThreadPoolExecutor(1) as beside:
            asking = beside.submit(self._facts, data, place)
            saved = self._dump(data, place, receiver)
            return saved, asking.result()

    def _facts(self, data: DatabaseData, place: PartPlace) -> dict[str, object]:
        facts: dict[str, object] = self._counters(data, place)
        if isinstance(data, RedisData):
            answer = self.containers.ask(self._inside(data, place, f"asking {data.name}", redis_facts_command()))
            facts |= redis_facts(answer.output)
        if isinstance(data, PostgresqlData):
            facts[_ROLES] = self._roles(data, place)
        return facts

    def _dump(self, data: DatabaseData, place: PartPlace, receiver: Command) -> Saved:
        # A copy of a file that only its owner may read takes root.
        user = "0" if isinstance(data, SqliteData) else ""
        what, command = f"saving {data.name}", dump_command(data)
        if place.is_running:
            source = self._inside(data, place, what, command, user=user)
        else:
            _, _, script, _, *arguments = command
            source = self.containers.script(place.image, script, arguments, what, volumes_from=place.container)
        try:
            output = stream(source, receiver, self.limit)
        except StreamFailedError as error:
            if not isinstance(data, SqliteData) or error.command is not source:
                raise
            if place.is_running and _NOT_RUNNING.search(error.ended.error):
                # It crashes again and again, and ran only when it was looked at.
                return self._dump(data, replace(place, is_running=False), receiver)
            if error.ended.exit_code not in _NO_PROGRAM:
                raise
            if place.host_file is None:
                raise SnapshotError(
                    f"{data.name} cannot be saved: its container has neither sqlite3 nor python3;",
                    advice="add one of them to the image, or run roas where it may read the file itself.",
                ) from error
            with self._copy_of(place.host_file) as copy:
                output = stream(Command(what=f"saving {data.name}", arguments=("cat", str(copy))), receiver, self.limit)
        saved = self.repository.parse_saved(output)
        if not saved.bytes:
            raise SnapshotError(f"Nothing came when {data.name} was saved;", advice="look at its service's log.")
        return saved

    def _put(self, source: Command, place: PartPlace, file: str, collect: str, part: SnapshotPart, *more: str) -> None:
        what = f"putting {part.name} back"
        arguments = (file, collect, str(part.bytes), *more)
        program = self.containers.script(
            place.image, PUT_FILE, arguments, what, volumes_from=place.container, with_input=True
        )
        stream(source, program, self.limit)

    def _inside(
        self, data: DatabaseData, place: PartPlace, what: str, command: tuple[str, ...],
        *, with_input: bool = False, user: str = "",
    ) -> Command:  # fmt: skip
        secret: Mapping[str, str] = {}
        if place.password and data.kind in PASSWORD_VARIABLE:
            secret = {PASSWORD_VARIABLE[data.kind]: place.password}
        return self.containers.exec(place.container, what, command, secret, with_input=with_input, user=user)

    @contextmanager
    def _private_file(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder, "copy.db")

    @contextmanager
    def _copy_of(self, file: Path) -> Iterator[Path]:
        """SQLite's online backup of a file that this process can open."""
        with self._private_file() as copy:
            try:
                with (
                    closing(sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=30)) as source,
                    closing(sqlite3.connect(copy)) as target,
                ):
                    source.backup(target)
            except sqlite3.Error as error:
                raise SnapshotError(f"{file} cannot be copied: {error}.") from error
            yield copy
