"""What was written to data since a snapshot, in figures that are cheap to get.

A server is asked for its own counters when its data is saved, and again before it is restored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.snapshots import DatabaseData, MariadbData, PostgresqlData, RedisData

WRITTEN = "written"
"""Fact of a database: what its server's counters were when it was saved."""

NOT_COUNTED = "not counted"
_SHOWN = 5
_COUNTERS = 5
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")

# Rows inserted, updated and deleted since the statistics began, and rows now; no table is read. An identifier follows
# the name, since a table of the same name may be another one.
POSTGRESQL_COUNTERS = """
SELECT format('%I.%I', schemaname, relname), relid, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup
FROM pg_stat_user_tables ORDER BY n_tup_ins + n_tup_upd + n_tup_del DESC, 1 LIMIT 1000
"""

MARIADB_SIZE = """
select coalesce(sum(data_length + index_length), 0) from information_schema.tables where table_schema = database()
"""


def counters_in(data: DatabaseData, printed: str) -> dict[str, Any]:
    """The counters that a server printed.

    Raises:
        ValueError: They are none.
    """
    match data:
        case PostgresqlData():
            lines = [line.rsplit("\t", _COUNTERS) for line in printed.splitlines() if line]
            return {name: [int(number) for number in numbers] for name, *numbers in lines}
        case MariadbData():
            return {"bytes": int(float(printed.split()[-1]))} if printed.split() else {}
        case RedisData():
            return {"keys": int(printed.split()[-1])} if printed.split() else {}
        case _:
            return {}


def describe_later_writes(data: DatabaseData, then: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str:
    """What the counters say was written between two moments, for a person."""
    if then is None:
        return f"{NOT_COUNTED}: the snapshot has no figures of then"
    if isinstance(data, PostgresqlData):
        return _rows(then, now)
    if isinstance(data, MariadbData):
        return sizes_then_and_now(then.get("bytes"), now.get("bytes"))
    if isinstance(data, RedisData) and "keys" in then and "keys" in now:
        return f"{then['keys']:,} keys then, {now['keys']:,} now"
    return NOT_COUNTED


def sizes_then_and_now(then: int | None, now: int | None) -> str:
    """Two sizes in bytes, for a person."""
    if then is None or now is None:
        return NOT_COUNTED
    return f"{size_in_words(then)} then, {size_in_words(now)} now"


def files_since(changed: int, changed_bytes: int, files: int, files_then: int | None) -> str:
    """What was written to files, for a person: those added or changed, and how many there were."""
    noun = "file" if changed == 1 else "files"
    text = f"{changed:,} {noun} ({size_in_words(changed_bytes)}) added or changed" if changed else "no file was written"
    if files_then is None:
        return text
    return f"{text}; {files_then:,} {'file' if files_then == 1 else 'files'} then, {files:,} now"


def size_in_words(count: float) -> str:
    """A size with its unit, such as 1.5 MiB."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _rows(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    changes: list[tuple[int, str]] = []
    for name, numbers in now.items():
        table, *counters, rows = numbers
        before = then.get(name)
        if before is None or before[0] != table:
            changes.append((rows, f"{name} was made{' anew' if before else ''}, with {rows:,} {_noun(rows)}"))
            continue
        added, changed, deleted = (count - was for count, was in zip(counters, before[1:4], strict=True))
        if min(added, changed, deleted) < 0:
            return f"{NOT_COUNTED}: the server's statistics began anew"
        if added or changed or deleted:
            figures = ((added, "added"), (changed, "changed"), (deleted, "deleted"))
            words = ", ".join(f"{count:,} {what}" for count, what in figures if count)
            changes.append((added + changed + deleted, f"{name}: rows {words}"))
        elif before[4] and not rows:
            changes.append((before[4], f"{name} was emptied of {before[4]:,} {_noun(before[4])}"))
    changes += [(numbers[4], f"{name} was dropped") for name, numbers in then.items() if name not in now]
    changes.sort(key=lambda change: -change[0])
    more = len(changes) - _SHOWN
    texts = [text for _, text in changes[:_SHOWN]] + ([f"{more} more tables"] if more > 0 else [])
    return "; ".join(texts) or "no row was written"


def _noun(count: int) -> str:
    return "row" if count == 1 else "rows"
