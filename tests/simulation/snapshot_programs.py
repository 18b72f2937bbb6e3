"""The programs that move data, where the product runs them: Docker's command line, dump programs, scripts and restic.

What the product starts dies with it. What runs in a container goes on, or ends where its engine restarts.
"""

from __future__ import annotations

import io
import itertools
import json
import random
import sqlite3
import tarfile
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from docker.errors import DockerException

from adapters.snapshots.containers import LABEL, PREPARE_FILES, PUT_FILE, SWITCH_FILES
from adapters.snapshots.streams import Command, Ended, Inspector, Limit
from tests.simulation import kernel
from tests.simulation.containers import Container, Data, Row, go_time
from tests.simulation.engine import Engine
from tests.simulation.engine_client import beside
from tests.simulation.programs_wait import wait_for
from tests.simulation.repository import Repository

_FILE, _SQLITE = "rows.json", b"SQLite format 3"


@dataclass(slots=True)
class _Helper:
    volume: str
    label: str


@dataclass(slots=True)
class SnapshotPrograms:
    """What stands for the functions of adapters/snapshots/streams.py.

    `on_load` is called before a volume's data become those of a snapshot. `fails` is the share of programs that fail,
    `hangs` of those that end only at their limit.
    """

    engine: Engine
    repository: Repository
    choices: random.Random
    fails: float = 0.0
    hangs: float = 0.0
    on_load: Callable[[str, str], None] = lambda _, __: None
    on_loaded: Callable[[str, str], None] = lambda _, __: None
    loader: kernel.Process | None = None
    """The process of ours that puts data back."""
    _helpers: dict[str, _Helper] = field(default_factory=dict)

    # The functions

    def run(self, command: Command, limit: Limit, data: bytes = b"") -> Ended:
        """Run a program to its end."""
        if (trouble := self._trouble(command, limit)) is not None:
            return trouble
        if command.arguments[0] == "restic":
            ended = self.repository.run(command, limit, data)
            dumps = ended.exit_code == 0 and "dump" in command.arguments
            return Ended(exit_code=0, error="", output=self.repository.content(command).decode()) if dumps else ended
        return self._docker(command, limit, data)

    def read(self, command: Command, limit: Limit, into: Callable[[bytes], object]) -> int:
        """Give what a program prints to `into`."""
        content = self._printed(command, limit)
        into(content)
        return len(content)

    def stream(
        self, source: Command, receiver: Command, limit: Limit, *, before: bytes = b"", after: bytes = b""
    ) -> str:
        """Let a source print into a receiver."""
        return self._give(self._printed(source, limit), source, receiver, limit)

    def _give(self, content: bytes, source: Command, receiver: Command, limit: Limit) -> str:
        ended = self._trouble(receiver, limit) or (
            self.repository.run(receiver, limit, content)
            if receiver.arguments[0] == "restic"
            else self._receive(receiver, limit, content, self._snapshot_of(source))
        )
        ended.check(receiver)
        return ended.output

    def inspected_stream(self, source: Command, receiver: Command, limit: Limit, inspector: Inspector) -> str:
        """The same with an inspector."""
        content = self._printed(source, limit)
        inspector.feed(content)
        inspector.finish()
        return self._give(content, source, receiver, limit)

    # Programs

    def _trouble(self, command: Command, limit: Limit) -> Ended | None:
        if self.choices.random() < self.hangs:
            wait_for(1e6, limit, command.what)
        if self.choices.random() < self.fails:
            return Ended(exit_code=1, error=f"{command.arguments[0]}: signal: terminated")
        return None

    def _snapshot_of(self, source: Command) -> str:
        words = source.arguments
        return self.repository.entries[words[words.index("dump") + 1]].snapshot_id if words[0] == "restic" else ""

    def _printed(self, command: Command, limit: Limit) -> bytes:
        """What a program prints that ended well.

        Raises:
            StreamFailedError: It did not.
        """
        ended = self._trouble(command, limit)
        if ended is None and command.arguments[0] == "restic":
            ended = self.repository.run(command, limit, b"")
            if ended.exit_code == 0:
                return self.repository.content(command)
        elif ended is None:
            wait_for(self.choices.uniform(0.2, 1.5), limit, command.what)
            try:
                return self._dump(command.arguments[1:])
            except (DockerException, KeyError) as error:
                ended = Ended(exit_code=1, error=f"Error response from daemon: {error}")
        ended.check(command)
        raise AssertionError("it ended well without output")

    def _dump(self, words: Sequence[str]) -> bytes:
        self._reach()
        if words[0] == "cp":
            return _archive(_encode(self._of_helper(words[1])))
        is_running = words[0] != "run"
        container = self._running(words) if is_running else self.engine.find(words[words.index("--volumes-from") + 1])
        content = _encode(self._volume_of(container))
        return _as_sqlite(content) if any("sqlite3" in word for word in words) else content

    def _receive(self, receiver: Command, limit: Limit, content: bytes, snapshot_id: str) -> Ended:
        words = receiver.arguments[1:]
        self.loader = kernel.current.get()
        wait_for(self.choices.uniform(0.2, 1.5), limit, receiver.what)
        try:
            self._reach()
            if words[0] == "cp":
                self._of_helper(words[-1]).aside = content
                return _well()
            if words[0] == "run":
                self._put_file(words, content, snapshot_id)
                return _well()
            container = self._running(words)
            data = self._volume_of(container)
        except (DockerException, KeyError) as error:
            return Ended(exit_code=1, error=f"Error response from daemon: {error}")
        if any("mariadb" in word for word in words):
            return self._load_in_pieces(data, container, receiver, limit, content, snapshot_id)
        # The transaction ends once its last words have come, whether or not the product still lives.
        self._replace(data, content, snapshot_id)
        return _well()

    def _load_in_pieces(
        self, data: Data, container: Container, receiver: Command, limit: Limit, content: bytes, snapshot_id: str
    ) -> Ended:
        self.on_load(self._name_of(data), snapshot_id)
        data.schema, data.rows, data.is_half = 0, [], True
        life = container.life
        wait_for(0.5, limit, receiver.what)
        if container.life != life:
            return Ended(exit_code=2, error="ERROR 2013 (HY000): Lost connection to server")
        self._replace(data, content, snapshot_id)
        return _well()

    def _replace(self, data: Data, content: bytes, snapshot_id: str) -> None:
        self.on_load(self._name_of(data), snapshot_id)
        schema, rows = _decode(content)
        data.schema, data.rows, data.of, data.is_half = schema, rows, snapshot_id, False
        self.on_loaded(self._name_of(data), snapshot_id)

    # Docker's command line

    def _docker(self, command: Command, limit: Limit, data: bytes) -> Ended:
        words = command.arguments[1:]
        wait_for(self.choices.uniform(0.02, 0.1), limit, command.what)
        if words[0] == "info" or words[:2] == ("volume", "inspect"):
            return _well("{}")
        try:
            self._reach()
            return self._do(words)
        except (DockerException, KeyError) as error:
            return Ended(exit_code=1, error=f"Error response from daemon: {error}")

    def _do(self, words: Sequence[str]) -> Ended:
        engine = self.engine
        match words[0]:
            case "create":
                helper = f"{self.choices.getrandbits(256):064x}"
                options = dict(itertools.pairwise(words))
                self._helpers[helper] = _Helper(options["--volume"].partition(":")[0], options["--label"])
                return _well(helper)
            case "rm":
                helpers = [key for key in self._helpers if key.startswith(words[-1])]
                for key in helpers:
                    del self._helpers[key]
                if not helpers:
                    engine.remove(engine.find(words[-1]), force=True)
                return _well()
            case "ps":
                return _well("\n".join(self._list(words)))
            case "inspect":
                return _well("\n".join(self._look(words)))
            case "pause" | "unpause":
                for word in words[1:]:
                    container = engine.find(word)
                    engine.on_change(container, words[0])
                    (engine.pause if words[0] == "pause" else engine.unpause)(container)
                return _well()
            case "run":
                return self._script(words)
            case "exec":
                return self._ask(self._running(words), words)
        raise AssertionError(f"the simulated docker does not know {words}")

    def _list(self, words: Sequence[str]) -> list[str]:
        if "status=paused" in words:
            return [container.container_id for container in self.engine.containers.values()
                    if container.status == "paused"]  # fmt: skip
        lines = [
            f"{key[:12]}\tcreated\t{helper.label.partition('=')[2]}" for key, helper in list(self._helpers.items())
        ]
        return lines + [
            f"{container.container_id[:12]}\t{container.status}\t{container.labels[LABEL]}"
            for container in self.engine.containers.values()
            if LABEL in container.labels
        ]

    def _look(self, words: Sequence[str]) -> list[str]:
        containers = [self.engine.find(word) for word in words[3:] if word in self.engine.containers]
        if "StartedAt" in words[2]:
            return [f"{container.container_id} {go_time(container.started_at)}" for container in containers]
        return [f"{container.status} {container.exit_code}" for container in containers]

    def _ask(self, container: Container, words: Sequence[str]) -> Ended:
        text = " ".join(words)
        if "config get" in text:
            return _well()
        if "_ready" in text or "ping" in text or "dbsize" in text:
            return _well("3") if container.serves else Ended(exit_code=1, error="no answer")
        return _well("\t1" if "relname" in text else "")

    def _script(self, words: Sequence[str]) -> Ended:
        script = words[words.index("-c") + 1]
        self.loader = kernel.current.get()
        volume = words[words.index("--volume") + 1].partition(":")[0]
        data, ended = self.engine.volumes[volume], [Ended(exit_code=3, error="what was to be put back is gone")]
        began = self.engine.started_at

        def switch() -> None:
            if data.aside is None:
                return
            self.on_load(volume, _restored_as(words))
            data.schema, data.rows, data.is_half = 0, [], True
            kernel.sleep(0.3)
            if self.engine.started_at != began or data.aside is None:
                return
            content, data.aside = data.aside, None
            self._replace(data, _extract(content), _restored_as(words))
            ended[0] = _well()

        if script == PREPARE_FILES:
            data.aside = None
            return _well()
        if script == SWITCH_FILES:
            beside(switch)
            return ended[0]
        return _well("0 0 0")

    def _put_file(self, words: Sequence[str], content: bytes, snapshot_id: str) -> None:
        if words[words.index("-c") + 1] != PUT_FILE:
            raise AssertionError("no file is put in place of another in another way")
        container = self.engine.find(words[words.index("--volumes-from") + 1])
        self._replace(self._volume_of(container), content, snapshot_id)

    # What there is

    def _reach(self) -> None:
        if self.engine.weather.is_away:
            raise DockerException("Cannot connect to the Docker daemon. Is the docker daemon running?")

    def _of_helper(self, place: str) -> Data:
        return self.engine.volumes[self._helpers[place.partition(":")[0]].volume]

    def _running(self, words: Sequence[str]) -> Container:
        key = next(word for word in words if len(word) == 64)
        container = self.engine.find(key)
        if container.status != "running":
            raise DockerException(f"container {key} is not running")
        return container

    def _volume_of(self, container: Container) -> Data:
        data = self.engine.data_of(container)
        if data is None:
            raise KeyError(f"{container.name} has no volume")
        return data

    def _name_of(self, data: Data) -> str:
        return next(name for name, other in self.engine.volumes.items() if other is data)


def _restored_as(words: Sequence[str]) -> str:
    return words[words.index("--label") + 1].partition("=")[2]


def _encode(data: Data) -> bytes:
    rows = [[row.number, row.service, row.version, row.written_at, row.schema] for row in data.rows]
    return json.dumps({"schema": data.schema, "rows": rows, "half": data.is_half}).encode()


def _decode(content: bytes) -> tuple[int, list[Row]]:
    document = json.loads(_of_sqlite(content) if content.startswith(_SQLITE) else content)
    return document["schema"], [Row(*row) for row in document["rows"]]


def _as_sqlite(content: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE state (content BLOB)")
        connection.execute("INSERT INTO state VALUES (?)", (content,))
        connection.commit()
        return connection.serialize()


def _of_sqlite(content: bytes) -> bytes:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.deserialize(content)
        (row,) = connection.execute("SELECT content FROM state")
        return bytes(row[0])


def rows_in(content: bytes) -> set[int]:
    """The numbers of the rows that a saved part has."""
    try:
        return {row.number for row in _decode(content)[1]}
    except ValueError:
        return {row.number for row in _decode(_extract(content))[1]}


def _archive(content: bytes) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        entry = tarfile.TarInfo(_FILE)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _extract(archived: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archived)) as archive:
        file = archive.extractfile(_FILE)
        assert file is not None
        return file.read()


def _well(output: str = "") -> Ended:
    return Ended(exit_code=0, error="", output=output)
