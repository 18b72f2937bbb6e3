"""A simulated repository of restic, at the place where programs are run."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from adapters.snapshots.streams import Command, Ended, Limit
from models.failures import SnapshotError
from tests.simulation import kernel
from tests.simulation.clock import Clock
from tests.simulation.programs_wait import wait_for

_NO_REPOSITORY, _LOCKED = 10, 11


@dataclass(frozen=True, slots=True)
class Entry:
    """One of restic's snapshots."""

    restic_id: str
    host: str
    tags: tuple[str, ...]
    path: str
    saved_at: datetime
    content: bytes

    @property
    def snapshot_id(self) -> str:
        """The snapshot of ours that it is a part of."""
        return next((tag for tag in self.tags if tag not in ("roas", "manifest")), "")

    @property
    def is_manifest(self) -> bool:
        """Whether it is what describes a snapshot."""
        return "manifest" in self.tags


@dataclass(slots=True)
class _Lock:
    process: kernel.Process | None
    is_exclusive: bool = False
    was_killed: bool = False

    @property
    def is_stale(self) -> bool:
        return self.was_killed or (self.process is not None and self.process.is_dead)


@dataclass(slots=True)
class Repository:
    """It may be away, and its disk full. `on_forget` is called before one of restic's snapshots is removed."""

    clock: Clock
    choices: random.Random
    is_away: bool = False
    is_full: bool = False
    is_made: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    on_forget: Callable[[Entry], None] = lambda _: None
    on_save: Callable[[Entry], None] = lambda _: None
    _locks: list[_Lock] = field(default_factory=list)

    def run(self, command: Command, limit: Limit, data: bytes) -> Ended:
        """Run restic with what it reads."""
        words = [word for word in command.arguments[1:] if word != "--no-cache"]
        wait_for(self.choices.uniform(0.05, 0.3), limit, command.what)
        if self.is_away:
            return _failed(1, "Fatal: unable to open config file: the server does not answer")
        if not self.is_made and words[0] != "init":
            return _failed(_NO_REPOSITORY, "Fatal: repository does not exist: unable to open config file")
        if words[0] == "init":
            self.is_made = True
            return _well()
        if words[0] == "unlock":
            self._locks = [lock for lock in self._locks if not lock.is_stale]
            return _well()
        is_exclusive = words[0] == "forget"
        if self._locks if is_exclusive else any(lock.is_exclusive for lock in self._locks):
            return _failed(_LOCKED, "Fatal: repository is already locked")
        lock = _Lock(kernel.current.get(), is_exclusive)
        if words[0] != "snapshots":
            self._locks.append(lock)
        try:
            ended = self._do(words, command, limit, data)
        except SnapshotError:
            lock.was_killed = True
            raise
        self._locks = [other for other in self._locks if other is not lock]
        return ended

    def _do(self, words: Sequence[str], command: Command, limit: Limit, data: bytes) -> Ended:
        if words[0] == "snapshots":
            return _well(json.dumps([_document(entry) for entry in self.entries.values()]))
        if words[0] == "backup":
            return self._save(words, command, limit, data)
        if words[0] == "dump":
            entry = self.entries.get(words[1])
            return _failed(1, f"Fatal: no matching ID found for prefix {words[1]}") if entry is None else _well("")
        if words[0] == "forget":
            for restic_id in [word for word in words if len(word) == 64]:
                if (entry := self.entries.get(restic_id)) is not None:
                    self.on_forget(entry)
                    del self.entries[restic_id]
                wait_for(0.05, limit, command.what)
            return _well()
        raise AssertionError(f"the simulated restic does not know {words}")

    def _save(self, words: Sequence[str], command: Command, limit: Limit, data: bytes) -> Ended:
        wait_for(self.choices.uniform(0.1, 0.5), limit, command.what)
        if self.is_full:
            return _failed(1, "Fatal: write /repository/data: no space left on device")
        options = dict(itertools.pairwise(words))
        entry = Entry(
            restic_id=f"{self.choices.getrandbits(256):064x}",
            host=options["--host"],
            tags=tuple(options["--tag"].split(",")),
            path=f"/{options['--stdin-filename']}",
            saved_at=self.clock.now(),
            content=data,
        )
        self.entries[entry.restic_id] = entry
        self.on_save(entry)
        summary = {
            "message_type": "summary",
            "snapshot_id": entry.restic_id,
            "total_bytes_processed": len(data),
            "total_files_processed": 1,
            "data_added": len(data),
        }
        return _well(json.dumps(summary))

    def content(self, command: Command) -> bytes:
        """What `restic dump` prints that has ended well."""
        return self.entries[command.arguments[command.arguments.index("dump") + 1]].content


def _document(entry: Entry) -> dict[str, object]:
    return {
        "id": entry.restic_id,
        "hostname": entry.host,
        "tags": list(entry.tags),
        "time": entry.saved_at.isoformat(),
        "paths": [entry.path],
        "summary": {"total_bytes_processed": len(entry.content), "total_files_processed": 1},
    }


def _well(output: str = "") -> Ended:
    return Ended(exit_code=0, error="", output=output)


def _failed(code: int, text: str) -> Ended:
    return Ended(exit_code=code, error=text)
