"""`roas account`: who signs in to the page with a password of their own."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.server.page_accounts import has_password, read_accounts
from cli.main import roas
from models.failures import BadInputError, NotFoundError, RoasError

PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data" / "prefect"


def account(*words: str, password: str = "") -> Result:
    return CliRunner().invoke(roas, ["account", *words], input=password)


def test_an_account_is_added_changed_listed_and_removed(home: Path) -> None:
    added = account("add", "vera", "--read-only", password=f"{PASSWORD}\n")
    account("add", "ann", password=PASSWORD)
    listed = json.loads(account("list", "--json").output)
    account("add", "vera", password=f"{PASSWORD}, changed")
    account("remove", "ann")
    (vera,) = read_accounts(home)

    assert added.output == "vera may sign in, and read only\n"
    assert listed == [{"name": "ann", "may_write": True}, {"name": "vera", "may_write": False}]
    assert (vera.name, vera.may_write) == ("vera", True)
    assert not has_password(vera, PASSWORD)
    assert has_password(vera, f"{PASSWORD}, changed")


def test_the_file_holds_no_password_and_is_its_owner_s_alone(home: Path) -> None:
    account("add", "vera", password=PASSWORD)
    account("add", "ann", password=PASSWORD)
    vera, ann = read_accounts(home)

    file = home / "page_accounts.json"
    assert PASSWORD not in file.read_text()
    assert vera.password_hash != ann.password_hash
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["", "-x", "a b", "../x", "a:b", "<b>", "x" * 64, "\u202ea"])
def test_a_name_that_could_be_taken_for_something_else_is_refused(home: Path, name: str) -> None:
    assert isinstance(account("add", "--", name, password=PASSWORD).exception, BadInputError)
    assert read_accounts(home) == ()


@pytest.mark.parametrize("password", ["", "short", "x" * 1025])
def test_a_password_that_is_guessed_or_costs_too_much_is_refused(home: Path, password: str) -> None:
    assert isinstance(account("add", "vera", password=password).exception, BadInputError)
    assert read_accounts(home) == ()


def test_an_account_that_is_not_there_and_a_broken_file_are_named(home: Path) -> None:
    assert isinstance(account("remove", "vera").exception, NotFoundError)
    account("add", "vera", password=PASSWORD)
    (home / "page_accounts.json").write_text("{")

    refused = account("list").exception
    assert isinstance(refused, RoasError)
    assert "page_accounts.json" in str(refused)


def test_no_account_has_any_password() -> None:
    assert not has_password(None, "")
    assert not has_password(None, PASSWORD)
