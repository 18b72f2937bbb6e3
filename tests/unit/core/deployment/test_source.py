"""What a sync does with the revision that it found, and what it says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.deployment.source import (
    SyncAction,
    SyncOptions,
    checkouts_to_remove,
    decide,
    is_recorded,
    leaving_links,
    lift_revisions,
    newest_tag,
    refuse_another_revision,
    refuse_data_in_checkout,
    state_after_failure,
    status_description,
)
from models.compose import Application, Mount, MountKind, ServiceDeclaration
from models.failures import BadInputError, PlanChangedError, SourceError
from models.sources import FetchedSource, Pin, SourceRevision, SourceState

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
OLD = SourceRevision(revision="a" * 40, ref="main", subject="Add a shop")
NEW = SourceRevision(revision="b" * 40, ref="main", subject="Sell tea")
FETCHED = FetchedSource(target=NEW)
NOTHING_KNOWN = SourceState()
NO_WORD = SyncOptions()
PIN = Pin(revision="a" * 40, by="person: ann", at=NOON, deployment_id="shop-1")


def action(
    fetched: FetchedSource = FETCHED,
    running: SourceRevision | None = OLD,
    state: SourceState = NOTHING_KNOWN,
    options: SyncOptions = NO_WORD,
    meant_to_run: bool = True,
) -> tuple[SyncAction, str]:
    found = decide("shop", fetched, running, state, options, meant_to_run=meant_to_run)
    return found.action, found.reason


def test_a_new_revision_is_taken_and_the_running_one_is_nothing_new() -> None:
    assert action() == (SyncAction.TAKE, 'takes bbbbbbbbbbbb (main, "Sell tea")')
    assert action(running=None)[0] is SyncAction.TAKE
    assert action(running=NEW)[0] is SyncAction.NOTHING


def test_a_stopped_environment_stays_stopped() -> None:
    kind, reason = action(meant_to_run=False)
    assert kind is SyncAction.STOPPED
    assert "`roas start shop`" in reason


def test_a_pinned_environment_stays_where_it_was_rolled_back_to() -> None:
    kind, reason = action(state=SourceState(pin=PIN))
    assert kind is SyncAction.PINNED
    assert reason.startswith("shop stays at revision aaaaaaaaaaaa, to which person: ann rolled it back")
    assert "`roas sync --unpin shop`" in reason


def test_a_revision_whose_service_failed_is_held_back_until_it_is_lifted() -> None:
    state = state_after_failure(SourceState(), NEW, "web exited with code 3", "shop-2", NOON, hold_back=True)
    kind, reason = action(state=state)
    assert kind is SyncAction.HELD_BACK
    assert "web exited with code 3" in reason
    assert "--lift bbbbbbbbbbbb shop" in reason

    assert lift_revisions(state, "shop", "sha256:bbbb") == lift_revisions(state, "shop", "bbbb")
    after, revisions = lift_revisions(state, "shop", "bbbb")

    assert revisions == (NEW.revision,)
    assert action(state=after)[0] is SyncAction.TAKE


def test_another_revision_is_taken_after_one_that_failed() -> None:
    state = state_after_failure(SourceState(), NEW, "web exited with code 3", "shop-2", NOON, hold_back=True)
    assert action(FetchedSource(target=replace(NEW, revision="c" * 40)), state=state)[0] is SyncAction.TAKE


def test_a_failure_that_may_be_another_s_is_tried_three_times() -> None:
    state = SourceState()
    for number in range(3):
        assert action(state=state)[0] is SyncAction.TAKE
        state = state_after_failure(state, NEW, "an image could not be pulled", f"shop-{number}", NOON, hold_back=False)
        # An operation that was resumed says it again.
        state = state_after_failure(state, NEW, "an image could not be pulled", f"shop-{number}", NOON, hold_back=False)
    assert action(state=state)[0] is SyncAction.HELD_BACK


def test_lifting_what_is_not_held_back_is_refused() -> None:
    with pytest.raises(SourceError, match="No revision of shop that begins with 'cccc' is held back"):
        lift_revisions(SourceState(), "shop", "cccc")


def test_rewritten_history_needs_a_user_s_word() -> None:
    rewritten = replace(FETCHED, follows_running=False)
    with pytest.raises(SourceError, match=r"bbbbbbbbbbbb .* does not follow aaaaaaaaaaaa .*, which runs") as raised:
        action(rewritten)
    assert "--allow-rewritten shop" in raised.value.advice
    assert action(rewritten, options=SyncOptions(allow_rewritten=True))[0] is SyncAction.TAKE


def test_changed_files_in_the_checkout_need_a_user_s_word() -> None:
    changed = replace(FETCHED, changed_files=tuple(f"file{number}" for number in range(12)))
    with pytest.raises(SourceError, match=r"file0, .*file9 and 2 more"):
        action(changed)
    assert action(changed, options=SyncOptions(discard_changes=True))[0] is SyncAction.TAKE


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("v*", "v1.10.0"),
        ("v1.*", "v1.10.0"),
        ("v1.9*", "v1.9.2"),
        ("v2.0.0-rc*", "v2.0.0-rc.10"),
        ("latest", "latest"),
        ("nothing*", None),
        ("la*", None),
    ],
)
def test_the_newest_tag_is_that_of_the_highest_version(pattern: str, expected: str | None) -> None:
    tags = ["v1.9.2", "v1.10.0", "v1.10.0-rc1", "latest", "v2.0.0-rc.9", "v2.0.0-rc.10", "v1.2"]
    if pattern == "v*":
        tags = [tag for tag in tags if not tag.startswith("v2")]
    assert newest_tag(tags, pattern) == expected


def test_links_that_lead_out_of_the_checkout_are_found() -> None:
    links = {"a": "b", "c/d": "../a", "c/e": "../../x", "f": "/etc/passwd", "g": "c/../../h"}
    assert leaving_links(links) == ("c/e", "f", "g")


def mounting(source: str) -> Application:
    mount = Mount(kind=MountKind.BIND, target="/data", source=source)
    return Application(
        project="shop", services={"db": ServiceDeclaration(name="db", image="x", config_hash="", mounts=(mount,))}
    )


def test_data_inside_of_the_checkout_is_refused() -> None:
    tracked = {".", "conf", "conf/app.ini"}
    with pytest.raises(SourceError, match="db mounts data, which is not in the repository"):
        refuse_data_in_checkout(mounting("/sources/shop/current/data"), "/sources/shop/current", tracked)
    for fine in ("/sources/shop/current/conf/app.ini", "/sources/shop/current", "/srv/data", "/sources/shop/current2"):
        refuse_data_in_checkout(mounting(fine), "/sources/shop/current", tracked)


def test_a_checkout_stays_while_a_container_of_its_time_lives() -> None:
    state = SourceState(left={"a": NOON, "b": NOON - timedelta(days=3), "c": NOON - timedelta(days=3)})
    there = ("a", "b", "c", "now")
    assert checkouts_to_remove(there, state, needed=["now", "c"], oldest_start=NOON - timedelta(days=2), now=NOON) == (
        "b",
    )
    assert checkouts_to_remove(there, state, needed=["now"], oldest_start=NOON - timedelta(days=4), now=NOON) == ()


def test_a_status_description_is_one_line_that_github_takes() -> None:
    assert status_description("a\nb  c") == "a b c"
    long = status_description("word " * 100)
    assert len(long) <= 140
    assert long.endswith("…")


@pytest.mark.parametrize(
    ("known", "by_person", "recorded"),
    [("", False, True), ("gone", False, False), ("another", False, True), ("gone", True, True)],
)
def test_a_schedule_records_one_failure_to_fetch_once(known: str, by_person: bool, recorded: bool) -> None:
    assert is_recorded("gone", known, by_person=by_person) is recorded


def test_a_sync_of_a_given_revision_takes_no_other() -> None:
    refuse_another_revision("shop", NEW, "b" * 12)
    # As registries print the digest of an artifact.
    refuse_another_revision("shop", NEW, f"sha256:{'b' * 12}")
    with pytest.raises(PlanChangedError, match=r"refers to bbbbbbbbbbbb .* now, not to aaaaaaa"):
        refuse_another_revision("shop", NEW, "a" * 7)
    with pytest.raises(BadInputError, match="'main' is no revision"):
        refuse_another_revision("shop", NEW, "main")
