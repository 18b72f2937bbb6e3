"""Locks of environments and consent by name, in real stores, without an engine."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.stores import Stores
from cli.main import roas
from models.failures import BadInputError
from models.operations import OperationType
from tasks.reporting.consent import ASKED, find_lock, refuse_without_consent, why_consent
from tasks.reporting.environment_view import read_environment_view
from tasks.runtime.stores import open_stores
from tests.integration.tasks.test_needs import begun, declare, folder  # noqa: F401 - fixture

NOW = datetime.now(UTC)


@pytest.fixture
def stores(folder: Path) -> Stores:  # noqa: F811 - the fixture
    for name, needs in {"data": [], "shop": ["data/db"], "wiki": ["data"], "old": ["data"]}.items():
        declare(folder, name, *needs)
    made = open_stores()
    for name in ("data", "shop", "wiki"):
        begun(made, name)
    return made


def run(*words: str) -> Result:
    return CliRunner().invoke(roas, list(words))


def test_who_is_needed_by_what_runs_is_asked_about_and_only_for_what_takes_it_down(stores: Stores) -> None:
    assert why_consent("data", "stop") == why_consent("data", "restart") == "shop, wiki need it"
    assert why_consent("data", "restart", ["db"]) == "shop, wiki need it"
    assert why_consent("data", "restart", ["cache"]) == "wiki needs it", "a whole environment needs each service"
    assert {verb: why_consent("data", verb) for verb in ("update", "start", "rollback")} == {
        "update": "",
        "start": "",
        "rollback": "",
    }
    begun(stores, "wiki", OperationType.STOP)
    assert why_consent("data", "stop") == "shop needs it"


def test_a_lock_is_recorded_as_no_pause_and_ends_once(stores: Stores) -> None:
    locked = run("lock", "shop", "--reason", "sale")
    assert locked.output == "shop is locked: who changes it has to type its name. `roas unlock shop` ends that\n"
    lock = find_lock("shop")
    assert lock is not None
    assert lock.words.startswith("locked by ")
    assert lock.words.endswith(" UTC: sale")
    assert list(stores.pauses.active(NOW)) == []
    assert read_environment_view("shop").status.lock == lock
    assert {verb: bool(why_consent("shop", verb)) for verb in (*ASKED, "start")} == {
        **dict.fromkeys(ASKED, True),
        "start": False,
    }
    assert run("unlock", "shop").output == "shop is unlocked\n"
    assert str(run("unlock", "shop").exception) == "shop is not locked; `roas status` lists environments."
    assert why_consent("shop", "stop") == ""
    assert run("history", "--verify").exit_code == 0, "it is audited"


def test_an_environment_that_its_file_protects_stays_so(stores: Stores, folder: Path) -> None:  # noqa: F811
    file = folder / "shop.yaml"
    file.write_text(f"{file.read_text()}protected: true\n")
    assert why_consent("shop", "update") == "it is protected by its file"
    refused = run("unlock", "shop").exception
    assert str(refused).startswith("shop is protected by its file, and not locked by a person;")
    run("lock", "shop")
    assert run("unlock", "shop").output == "shop is unlocked; it is still protected by its file\n"


@pytest.mark.parametrize("confirm", ["", "sho", "SHOP", "yes", "data"])
def test_only_the_name_itself_is_consent(stores: Stores, confirm: str) -> None:
    stores.pauses.lock("shop", "", "ann", NOW)
    with pytest.raises(BadInputError) as refused:
        refuse_without_consent("shop", "update", confirm)
    assert str(refused.value) == (
        f"shop was not touched (update): it is locked by ann since {NOW:%Y-%m-%d %H:%M} UTC; "
        "confirm it by its name: --confirm shop."
    )
    refuse_without_consent("shop", "update", "shop")
    refuse_without_consent("wiki", "update", confirm)


@pytest.mark.parametrize("command", [["stop"], ["restart"], ["update", "--now"], ["down"], ["rollback"], ["sync"]])
@pytest.mark.parametrize("confirm", [[], ["--confirm", "other"]])
def test_commands_refuse_before_anything_is_run(stores: Stores, command: list[str], confirm: list[str]) -> None:
    stores.pauses.lock("shop", "", "ann", NOW)
    before = len(stores.operations.history())
    refused = run(*command, *confirm, "shop").exception
    assert isinstance(refused, BadInputError)
    assert "--confirm shop" in str(refused)
    assert len(stores.operations.history()) == before


def test_what_cannot_be_locked_is_refused_in_one_line(stores: Stores) -> None:
    for words in (["lock", "nosuch"], ["lock", "../x"], ["lock", ""]):
        assert isinstance(run(*words).exception, BadInputError), words
    assert stores.pauses.locks() == {}
