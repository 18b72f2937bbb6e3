"""The schema of the three stores, which other programs read."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from tests.golden.conftest import RoasCommand, golden

STORES = ("deployment_logs", "errors", "monitoring")
NOT_OURS = ("sqlite_", "alembic_")


def schema(path: Path) -> str:
    """Tables with columns, keys and checks, indexes, views and triggers, each sorted by name."""
    with sqlite3.connect(path) as store:
        things = store.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
        lines = [f"STORE {path.stem}"]
        for kind, name, _, sql in things:
            if kind == "table" and not name.startswith(NOT_OURS):
                lines += ["", f"TABLE {name}", *table(store, name, sql)]
        for kind, name, on, sql in things:
            if kind in ("view", "trigger") and not on.startswith(NOT_OURS):
                lines += ["", f"{kind.upper()} {name}", f"    {plain_sql(sql)}"]
    store.close()
    return "\n".join(lines) + "\n"


def table(store: sqlite3.Connection, name: str, sql: str) -> list[str]:
    columns = []
    for _, column, kind, not_null, default, key, hidden in store.execute(f"PRAGMA table_xinfo('{name}')"):
        words = (kind, "NOT NULL" * not_null, f"DEFAULT {default}" if default else "", "KEY" * bool(key))
        columns.append(f"    {column} {' '.join(word for word in words if word)}{' HIDDEN' * bool(hidden)}")
    indexes = []
    for _, index, unique, origin, partial in store.execute(f"PRAGMA index_list('{name}')").fetchall():
        on = ", ".join(str(row[2]) for row in store.execute(f"PRAGMA index_info('{index}')"))
        text = store.execute("SELECT max(sql) FROM sqlite_master WHERE name = ?", (index,)).fetchone()[0]
        where = f" WHERE {plain_sql(text).partition(' WHERE ')[2]}" if partial else ""
        called = index if origin == "c" else "(constraint)"
        indexes.append(f"    {'UNIQUE ' * unique}INDEX {called} ({on}){where}")
    keys = [
        f"    {row[3]} REFERENCES {row[2]}({row[4]}) ON DELETE {row[6]}"
        for row in store.execute(f"PRAGMA foreign_key_list('{name}')")
    ]
    checks = [f"    CHECK {one}" for one in re.findall(r"CHECK (\(.*?\))(?:, | ?\)$)", plain_sql(sql))]
    return [*sorted(columns), *sorted(keys), *sorted(checks), *sorted(indexes)]


def plain_sql(sql: str) -> str:
    return re.sub(r"\s+", " ", sql).replace('"', "").strip()


def opened(roas: RoasCommand) -> str:
    """The schema of the stores once the program has opened them."""
    done = roas("patterns", "add", "warp", "warp core", "--category", "timeout")
    assert done.code == 0, done.err
    return "\n".join(schema(roas.folder / "data" / f"{name}.db") for name in STORES)


def test_schema_of_new_stores(empty: RoasCommand) -> None:
    golden("stores.txt", opened(empty))


def test_recorded_stores_are_upgraded_to_the_same_schema(recorded: RoasCommand) -> None:
    golden("stores.txt", opened(recorded))
