"""The audit log's rules: how an entry is hashed, and what a verification finds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from models.audit import AuditEntry, AuditFinding

GENESIS = "genesis"
"""The kind of a chain's first entry."""

NO_HASH = "0" * 64
"""What the first entry names as the hash before it."""

_LONGEST_KEPT = 120
"""Longer values are kept as their digest: the log must not double the store."""

Row = Mapping[str, Any]


def plain(value: Any) -> str | int | float | None:
    """A column's value as both databases give it, in one form."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ", "microseconds")
    return value if value is None or isinstance(value, int | float) else str(value)


def row_of_entry(row: Row) -> dict[str, Any]:
    """A row as an entry keeps it: short values as they are, long ones as their digest."""
    long = {name: _short(value) for name, value in row.items() if isinstance(value, str) and len(value) > _LONGEST_KEPT}
    return {**row, **long}


def row_digest(row: Row) -> str:
    """A whole row in one digest."""
    return _digest(_text(sorted(row.items())))


def content_of(rows: Mapping[str, Mapping[str, Any]], archives: Mapping[str, str] | None = None, **facts: Any) -> str:
    """The content of an entry: rows by table and key, as columns or a digest, or None for one that has left."""
    return _text({"rows": rows, **({"archives": archives} if archives else {}), **facts})


def entry_hash(entry: AuditEntry) -> str:
    """The hash of an entry, over the hash before it and all that it says."""
    return _digest(
        _text(
            [
                *(entry.previous_hash, entry.seq, entry.at, entry.kind, entry.subject),
                *(entry.asked_uid, entry.asked_user, entry.login_uid, entry.claimed_by, entry.content),
            ]
        )
    )


class Verifier:
    """Follows one store's chain from its first entry, then compares the rows with what it says of them."""

    def __init__(self, store: str) -> None:
        """Nothing is read yet."""
        self.findings: list[AuditFinding] = []
        self.archives: dict[str, tuple[str, int]] = {}
        """The checksum of each archive that rows left into, and the entry that says so."""
        self.entries = self.rows = 0
        self.head = NO_HASH
        self.hashes: set[str] = set()
        self._store = store
        self._last_seq = 0
        self._restored: tuple[int, str] | None = None
        self._expected: dict[str, dict[str, tuple[Any, int]]] = {}
        self._seen: dict[str, set[str]] = {}

    def add(self, entry: AuditEntry) -> None:
        """Take the next entry, in the order of their numbers."""
        self._follow(entry)
        self.entries += 1
        self._last_seq, self.head = entry.seq, entry.hash
        self.hashes.add(entry.hash)
        try:
            content = json.loads(entry.content)
            rows, archives = dict(content["rows"]), dict(content.get("archives", {}))
        except (ValueError, TypeError, KeyError):
            self._find(entry.subject, "the entry's content cannot be read", entry.seq)
            return
        for table, by_key in rows.items():
            expected = self._expected.setdefault(table, {})
            expected.update({key: (value, entry.seq) for key, value in by_key.items()})
        self.archives.update({file: (checksum, entry.seq) for file, checksum in archives.items()})
        if entry.kind == "restored":
            self._restored = (entry.seq, entry.at)

    def compare(self, table: str, key: str, row: Row) -> None:
        """Compare a row of the store with its last record."""
        self.rows += 1
        self._seen.setdefault(table, set()).add(key)
        expected, seq = self._expected.get(table, {}).get(key, (None, None))
        name = _name_of(table, key)
        if seq is None:
            self._find(name, "the row was inserted: no entry records it")
        elif expected is None:
            self._find(name, "the row is there again, after it had left the store", seq)
        elif isinstance(expected, str):
            if expected != row_digest(row):
                self._find(name, "the row was changed; its columns were recorded as one digest", seq)
        elif changed := [column for column in expected if expected[column] != _short(row.get(column))]:
            reported = "; ".join(_difference(column, expected[column], row.get(column)) for column in changed)
            self._find(name, f"the row was changed: {reported}", seq)

    def finish(self) -> None:
        """Find the rows that are gone, after all that are there were compared."""
        if self.entries == 0:
            self._find("audit_log", "it is empty: every entry was removed")
        for table, by_key in self._expected.items():
            keys = self._seen.get(table, set())
            for key, (expected, seq) in by_key.items():
                if expected is not None and key not in keys:
                    was = expected.get("status") or expected.get("state") if isinstance(expected, dict) else None
                    self._find(_name_of(table, key), f"the row was removed{f'; it was {was}' if was else ''}", seq)

    def check_archive(self, file: str, checksum: str) -> None:
        """Compare an archive with the checksum it had when rows left into it."""
        expected, seq = self.archives[file]
        if expected != checksum:
            self._find(f"archive {file}", "the file is not the one that rows left into", seq)

    def explain_missing_hash(self) -> str:
        """Why a hash that was noted may be in the chain no more."""
        if self._restored is None:
            return ""
        seq, at = self._restored
        return f"; entry {seq} of {self._store} says that a backup was restored at {at} UTC"

    def _follow(self, entry: AuditEntry) -> None:
        name = f"entry {entry.seq} ({entry.kind} {entry.subject})"
        if self.entries == 0 and (entry.seq, entry.kind) != (1, GENESIS):
            self._find("audit_log", f"its beginning was removed: it starts with {name}", entry.seq)
        elif self.entries and entry.seq != self._last_seq + 1:
            first, last = self._last_seq + 1, entry.seq - 1
            gap = f"entry {first} was" if first == last else f"entries {first} to {last} were"
            self._find("audit_log", f"{gap} removed before {name}", entry.seq)
        elif entry.previous_hash != self.head:
            self._find("audit_log", f"{name} does not follow the one before it: one of them was replaced", entry.seq)
        if entry_hash(entry) != entry.hash:
            self._find("audit_log", f"{name} was changed: its hash is not that of what it says", entry.seq)

    def _find(self, subject: str, what: str, entry: int | None = None) -> None:
        self.findings.append(AuditFinding(store=self._store, subject=subject, what=what, entry=entry))


_WORDS = {
    "deployment_operations": "operation",
    "manual_intervention_tickets": "ticket",
    "ticket_history": "line of a ticket's history",
    "recovery_controls": "pause or lock of",
}


def _name_of(table: str, key: str) -> str:
    return f"{_WORDS.get(table, table)} {key}"


def _difference(column: str, was: Any, now: Any) -> str:
    if isinstance(was, str) and was.startswith("sha256:"):
        return column
    return f"{column} is {_short(now)!r}, recorded was {was!r}"


def _short(value: Any) -> Any:
    return f"sha256:{_digest(value)}" if isinstance(value, str) and len(value) > _LONGEST_KEPT else value


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
