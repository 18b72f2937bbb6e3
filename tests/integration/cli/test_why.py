"""`roas why` and `roas history --last` without an id, and `roas why` of what failed outside of an operation."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.integration.stores.values import ERROR, NOON, TICKET, record_some
from tests.support.commands import run_roas_text

LATER = NOON + timedelta(hours=1)
SEEN = replace(
    ERROR,
    error_id="err-20260101-130000-ab12cd",
    deployment_id=None,
    source="collection",
    first_seen=LATER,
    service="db",
)
OPEN = replace(TICKET, ticket_id="T-260101-ab12", error_id=SEEN.error_id, opened_at=LATER, history=())


@pytest.fixture
def stores(tmp_path: Path):
    with Stores.open(Settings(data_dir=tmp_path / "data")) as stores:
        record_some(stores)
        yield stores


def roas(folder: Path, *words: str) -> str:
    done = run_roas_text(*words, cwd=folder, env=os.environ | {"ROAS_DATA_DIR": str(folder / "data")})
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_failure_that_no_operation_had_is_explained_by_its_ticket(stores: Stores, tmp_path: Path) -> None:
    assert "start of prod" in roas(tmp_path, "why").splitlines()[0]

    stores.errors.record(SEEN)
    stores.tickets.open(OPEN)

    for words in ((), ("prod",), (SEEN.error_id,), (OPEN.ticket_id,)):
        said = roas(tmp_path, "why", *words)
        assert OPEN.ticket_id in said
        assert f"failed   {SEEN.text}" in said
        assert f"roas resolve {OPEN.ticket_id}" in said


def test_what_a_person_asked_about_does_not_hide_the_last_failed_operation(stores: Stores, tmp_path: Path) -> None:
    stores.errors.record(replace(SEEN, source="person"))
    stores.tickets.open(OPEN)

    assert "start of prod" in roas(tmp_path, "why").splitlines()[0]


def test_show_without_an_id_shows_the_latest_operation(stores: Stores, tmp_path: Path) -> None:
    latest = stores.operations.history(limit=1)[0].deployment_id

    assert latest in roas(tmp_path, "show")
    assert latest in roas(tmp_path, "show", "prod")
