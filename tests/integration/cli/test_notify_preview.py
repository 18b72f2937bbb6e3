"""`roas notify preview` prints what would be sent of an environment or a ticket, and records nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.stores import Stores
from cli.main import roas
from models.failures import NotFoundError
from models.recovery import Ticket
from models.settings import Settings
from tests.support.chat_rules import discord_objects, slack_objects, teams_objects
from tests.support.recorded_errors import error_of_web

NOW = datetime.now(UTC)
ERROR = error_of_web()


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    (tmp_path / "shop.yaml").write_text("name: shop\nproject: shop\ncompose_files: [compose.yaml]\n")
    return tmp_path


@pytest.fixture
def failing(shop: Path) -> Path:
    with Stores.open(Settings()) as stores:
        stores.errors.record(ERROR)
        stores.tickets.open(Ticket(ticket_id="tic-1", error_id="err-1", environment="shop", title="web", opened_at=NOW))
    return shop


def preview(*words: str) -> str:
    done = CliRunner().invoke(roas, ["notify", "preview", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_failure_is_shown_by_environment_and_by_ticket_and_is_still_due(failing: Path) -> None:
    shown = preview("shop")
    assert shown.startswith("web of shop needs help: its container exited\n")
    assert "Ticket: roas tickets tic-1" in shown
    assert preview("tic") == shown
    with Stores.open(Settings()) as stores:
        assert stores.error_notifications.reported_errors("shop", NOW)[0].reported.times == 0


@pytest.mark.parametrize(
    ("service", "objections"), [("discord", discord_objects), ("slack", slack_objects), ("teams", teams_objects)]
)
def test_each_service_would_accept_what_is_shown(failing: Path, service: str, objections: object) -> None:
    assert callable(objections)
    assert objections(json.loads(preview("shop", "--as", service))) == []


def test_without_a_failure_an_example_is_shown(shop: Path) -> None:
    assert preview("shop").startswith("Example: example-web of shop needs help: a login was refused\n")


def test_an_unknown_ticket_is_refused(failing: Path) -> None:
    with pytest.raises(NotFoundError):
        preview("tic-9")
