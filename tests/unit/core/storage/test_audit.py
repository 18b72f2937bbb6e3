"""What the audit log keeps of a row: the same whichever database gave it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from core.storage.audit import plain, row_digest


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (True, 1),
        (False, 0),
        (7, 7),
        (1.5, 1.5),
        ("None", "None"),
        ("", ""),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02 03:04:05.000000"),  # noqa: DTZ001 - as SQLite gives it
        (datetime(2026, 1, 2, 3, 4, 5, 60, tzinfo=UTC), "2026-01-02 03:04:05.000060"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=10), "00000000-0000-0000-0000-00000000000a"),
    ],
    ids=repr,
)
def test_a_column_is_kept_as_both_databases_give_it(value: Any, kept: Any) -> None:
    assert plain(value) == kept
    assert type(plain(value)) is type(kept)


def test_a_row_has_one_digest_whatever_the_order_of_its_columns_and_another_with_another_value() -> None:
    row = {"status": "success", "ok": 1, "note": None}

    assert row_digest(row) == row_digest(dict(reversed(row.items())))
    assert row_digest(row) != row_digest(row | {"note": "None"})
