"""Shipped patterns are renewed when the stores are opened, with the names of the causes that they decided."""

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from adapters.pattern_files import shipped_patterns
from adapters.shipped_version import shipped_version
from adapters.stores import Stores
from models.errors import Category, RecordedError, Severity, Strategy
from models.recovery import RecoveryExecution
from models.settings import Settings
from tests.integration.stores.values import ERROR, NOON, PATTERN, TICKET

MINUTE = timedelta(minutes=1)


def error(text: str, category: Category, pattern: str, **more: object) -> RecordedError:
    verdict = replace(
        ERROR.verdict,
        category=category,
        pattern_name=pattern,
        reason=f'"{text}" means {category} (pattern {pattern}).',
        span=(0, len(text)),
        template=text,
    )
    return replace(ERROR, text=text, verdict=verdict, **more)


OLD_IMPORT = error("No module named 'yaml'", Category.PYTHON_IMPORT_CONFIG, "module_missing")
NEW_IMPORT = error(
    OLD_IMPORT.text,
    Category.RUNTIME_DEPENDENCY_MISSING,
    "module_missing",
    error_id="e2",
    last_seen=NOON + MINUTE,
)


def change(stores: Stores, statement: str) -> None:
    with stores.databases["errors"].write() as connection:
        connection.execute(sa.text(statement))


def make_old(stores: Stores) -> None:
    change(stores, "UPDATE error_patterns SET shipped_version = 'before' WHERE shipped_version IS NOT NULL")


def test_shipped_patterns_are_upgraded_and_a_persons_choices_stay(stores: Stores) -> None:
    gone = replace(PATTERN, name="gone")
    stores.patterns.renew([PATTERN, gone], "1")
    stores.patterns.put(replace(PATTERN, enabled=False))
    stores.patterns.put(replace(PATTERN, name="mine", shipped=False))
    stores.patterns.count_match("port_in_use", NOON)
    newer = replace(PATTERN, regex="in use", priority=70)
    stores.patterns.renew([newer, replace(PATTERN, name="mine", regex="shipped now")], "2")
    found = {one.name: one for one in stores.patterns.all()}
    assert found["port_in_use"] == replace(newer, enabled=False, match_count=1, last_matched=NOON)
    assert found["mine"] == replace(PATTERN, name="mine", shipped=False)
    assert "gone" not in found


def test_opening_renews_a_set_of_another_version(stores: Stores, settings: Settings) -> None:
    switched_off = replace(shipped_patterns()[0], enabled=False)
    stores.patterns.put(switched_off)
    stores.patterns.put(replace(PATTERN, name="mine", shipped=False))
    change(stores, "UPDATE error_patterns SET pattern_regex = 'old' WHERE pattern_name = 'module_missing'")
    make_old(stores)
    with Stores.open(settings) as renewed:
        found = {one.name: one for one in renewed.patterns.all()}
    wanted = {one.name: one for one in shipped_patterns()} | {switched_off.name: switched_off}
    assert found == wanted | {"mine": replace(PATTERN, name="mine", shipped=False)}


def test_opening_leaves_a_set_of_this_version_alone(stores: Stores, settings: Settings) -> None:
    change(stores, "UPDATE error_patterns SET pattern_regex = 'kept' WHERE pattern_name = 'module_missing'")
    with Stores.open(settings) as again:
        assert next(one for one in again.patterns.all() if one.name == "module_missing").regex == "kept"


@pytest.mark.files
def test_what_cannot_be_renewed_stops_no_command(stores: Stores, settings: Settings, caplog) -> None:
    make_old(stores)
    change(stores, "CREATE TRIGGER full BEFORE INSERT ON error_patterns BEGIN SELECT RAISE(ABORT, 'no room'); END")
    stores.errors.record(ERROR)
    with Stores.open(settings) as opened:
        assert opened.errors.get("e1") == ERROR
    assert "could not be renewed" in caplog.text


def test_an_error_of_a_category_of_before_is_one_with_those_seen_now(stores: Stores, settings: Settings) -> None:
    stores.errors.record(OLD_IMPORT)
    stores.tickets.open(TICKET)
    make_old(stores)
    with Stores.open(settings) as renewed:
        named = renewed.errors.get("e1").verdict
        assert (named.category, named.reason) == (NEW_IMPORT.verdict.category, NEW_IMPORT.verdict.reason)
        assert (named.severity, named.strategy) == (OLD_IMPORT.verdict.severity, OLD_IMPORT.verdict.strategy)
        again = renewed.errors.record(NEW_IMPORT)
        assert (again.error_id, again.count) == ("e1", 2)
        assert renewed.tickets.open(replace(TICKET, ticket_id="t2")).ticket_id == "t1"


def test_a_resolved_error_of_before_is_found_when_its_cause_comes_back(stores: Stores, settings: Settings) -> None:
    stores.errors.record(OLD_IMPORT)
    stores.tickets.open(TICKET)
    stores.tickets.resolve_for_error("e1", TICKET.history[0])
    stores.errors.resolve("e1", NOON, "image built anew")
    make_old(stores)
    with Stores.open(settings) as renewed:
        assert renewed.errors.get("e1").verdict.category is Category.RUNTIME_DEPENDENCY_MISSING
        assert renewed.errors.record(NEW_IMPORT).error_id == "e2"
        assert renewed.tickets.open(replace(TICKET, ticket_id="t2", error_id="e2")).ticket_id == "t1"


def test_a_category_that_the_evidence_gave_stays(stores: Stores, settings: Settings) -> None:
    reason = '"No module" means runtime_dependency_missing (pattern module_missing). Its mode is wrong.'
    verdict = replace(OLD_IMPORT.verdict, category=Category.VOLUME_MOUNT, reason=reason)
    stores.errors.record(replace(OLD_IMPORT, verdict=verdict))
    make_old(stores)
    with Stores.open(settings) as renewed:
        assert renewed.errors.get("e1").verdict == verdict


def test_two_open_errors_of_one_cause_stay_two(stores: Stores, settings: Settings) -> None:
    stores.errors.record(OLD_IMPORT)
    stores.errors.record(NEW_IMPORT)
    make_old(stores)
    with Stores.open(settings) as renewed:
        assert renewed.errors.get("e1") == OLD_IMPORT
        assert renewed.errors.get("e2") == NEW_IMPORT


def test_an_error_of_a_pattern_that_is_gone_is_judged_by_what_is_kept_of_it(stores: Stores, settings: Settings) -> None:
    stores.patterns.renew([replace(PATTERN, name="login_of_before"), *shipped_patterns()], "before")
    refused = 'FATAL: password authentication failed for user "app"'
    before = Category.MISSING_ENV_SECRET, "login_of_before"
    stores.errors.record(error(refused, *before))
    stores.errors.record(error("db did not start", *before, error_id="e2", evidence={"logs": [refused]}))
    stores.errors.record(error("a zebra has crossed", *before, error_id="e3"))
    with Stores.open(settings) as renewed:
        verdicts = [renewed.errors.get(one).verdict for one in ("e1", "e2", "e3")]
    assert [one.category for one in verdicts] == [Category.AUTH_FAILED, Category.AUTH_FAILED, before[0]]
    assert {one.strategy for one in verdicts} == {ERROR.verdict.strategy}
    assert verdicts[0].pattern_name in {one.name for one in shipped_patterns()}


def test_a_persons_pattern_names_what_it_decided(stores: Stores, settings: Settings) -> None:
    own = next(one for one in shipped_patterns() if one.name == "module_missing")
    stores.patterns.put(replace(own, category=Category.PYTHON_IMPORT_CONFIG, shipped=False))
    stores.errors.record(OLD_IMPORT)
    make_old(stores)
    with Stores.open(settings) as renewed:
        assert renewed.errors.get("e1") == OLD_IMPORT


def test_names_of_another_version_are_read(stores: Stores) -> None:
    stores.errors.record(ERROR)
    stores.patterns.put(replace(PATTERN, name="mine", shipped=False))
    stores.recoveries.record(
        RecoveryExecution(
            attempt_id="e1-1", error_id="e1", strategy=Strategy.FREE_PORT, started_at=NOON, environment="prod"
        )
    )
    change(stores, "UPDATE deployment_errors SET category = 'haunted', strategy = 'exorcise'")
    change(stores, "UPDATE error_patterns SET category = 'haunted', severity = 'eerie' WHERE pattern_name = 'mine'")
    change(stores, "UPDATE auto_recovery_executions SET recovery_strategy = 'exorcise'")
    for read in (stores.errors.get("e1"), stores.errors.latest()[0], stores.errors.list_unresolved("prod")[0]):
        assert (read.verdict.category, read.verdict.strategy) == (Category.UNKNOWN, Strategy.INVESTIGATE)
        assert read.verdict.reason == "the port is taken Another version of this program recorded it as haunted."
    mine = next(one for one in stores.patterns.all() if one.name == "mine")
    assert (mine.category, mine.severity) == (Category.UNKNOWN, Severity.MEDIUM)
    assert stores.recoveries.find("e1")[0].strategy is Strategy.INVESTIGATE


def test_a_version_names_the_content_of_the_files() -> None:
    assert len(shipped_version()) == 16
    assert int(shipped_version(), 16) >= 0
