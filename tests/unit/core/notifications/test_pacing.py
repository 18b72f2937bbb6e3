"""What is sent when: single messages, digests, limits, flapping services and quiet hours."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta

from core.notifications.due import FORGOTTEN, due, failure_of
from core.notifications.message import compose
from core.notifications.pacing import (
    FLAPPING_EVERY,
    FLAPS,
    MOST_AN_HOUR,
    SINGLE,
    STORM,
    Batch,
    pace,
    quiet_times,
    span_to_remember,
)
from models.environments import QuietHours
from models.errors import Category, RecordedError, Severity, Strategy, Verdict
from models.notifications import (
    Addresses,
    News,
    NewsDetails,
    NotificationReason,
    ReportedError,
    SentNotifications,
    Tone,
)
from models.recovery import RecoveryExecution, Ticket

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
NIGHT = QuietHours.model_validate({"from": time(22), "to": time(6)})
TEN = ("api", "auth", "cache", "db", "jobs", "mail", "search", "web", "wiki", "worker")


def cause(service: str, at: datetime = NOON, *, severity: Severity = Severity.HIGH, **more: object) -> ReportedError:
    verdict = Verdict(
        category=Category.DEPENDENCY_REFUSED,
        severity=severity,
        strategy=Strategy.RESTART_SERVICE,
        confidence=0.9,
        reason="",
    )
    needs = {} if service == "db" else {"dependencies_down": ["db"]}
    error = RecordedError(
        error_id=f"err-{service}-{at:%H%M%S}",
        environment="shop",
        text=f"{service} exited with code 1",
        source="watch",
        verdict=verdict,
        first_seen=at,
        last_seen=at,
        service=service,
        evidence=needs,
    )
    ticket = Ticket(ticket_id=f"tic-{service}", error_id=error.error_id, environment="shop", title="", opened_at=at)
    made = ReportedError(error=error, reported=SentNotifications(), ticket=ticket)
    return replace(made, **more)  # type: ignore[arg-type]


def sizes(batches: list[Batch]) -> list[int]:
    return [len(one.news) for one in batches]


def test_few_are_messages_of_their_own_and_many_are_one() -> None:
    news = [failure_of(cause(name)) for name in TEN]
    assert sizes(pace(news[:SINGLE], (), (), NOON)) == [1] * SINGLE
    assert sizes(pace(news, (), (), NOON)) == [10]


def test_a_digest_begins_with_what_the_others_need() -> None:
    news = tuple(failure_of(cause(name)) for name in TEN)
    known = {"err-db-120000": NewsDetails(first_cause="db ended with exit code 1")}
    shown = compose(Batch(news=news), known, Addresses(), NOON).message
    assert shown.title.startswith("shop: 10 failures. First cause: db of shop needs help")
    assert shown.summary.startswith("db ended with exit code 1")
    assert len(shown.items) == 10
    assert shown.items[0].startswith("db of shop")
    many = tuple(failure_of(cause(f"{name}{part}")) for name in TEN for part in "12")
    assert compose(Batch(news=many), {}, Addresses(), NOON).message.items[-1] == "and 10 more: roas tickets shop"


def test_a_digest_of_several_environments_counts_them_and_each_keeps_its_own_quiet_hours() -> None:
    news = [failure_of(cause(name)) for name in TEN[:2]]
    news += [replace(one, environment="mail") for one in news]
    shown = compose(Batch(news=tuple(news)), {}, Addresses(), NOON).message
    assert shown.title.startswith("2 environments: 4 failures. First cause: ")
    assert shown.facts[-1].value == "roas tickets"
    at_night = NOON.replace(hour=23)
    (first, second) = pace(news, (), (), at_night, {"mail": [NIGHT]})
    assert [one.environment for one in (*first.news, *second.news)] == ["shop", "shop"]


def test_a_digest_of_what_is_over_needs_no_help() -> None:
    over = [cause(name) for name in TEN[:4]]
    ended = [replace(one, error=replace(one.error, resolved_at=NOON), executions=[TRIED]) for one in over]
    (batch,) = pace(due(ended, NOON), (), (), NOON)
    shown = compose(batch, {}, Addresses(), NOON).message
    assert (shown.title, shown.tone) == ("shop: 4 reports, nothing needs help", Tone.SUCCESS)


TRIED = RecoveryExecution(
    error_id="e",
    strategy=Strategy.RESTART_SERVICE,
    started_at=NOON,
    ended_at=NOON,
    success=True,
    final_status="healthy",
)


def test_after_three_messages_the_rest_waits_and_is_one_message() -> None:
    sent = [NOON - MINUTE, NOON - 2 * MINUTE, NOON - 3 * MINUTE]
    news = [failure_of(cause(name)) for name in TEN[:5]]
    assert pace(news, (), sent, NOON) == []
    assert sizes(pace(news, (), sent, NOON - 3 * MINUTE + STORM)) == [5]


def test_a_channel_gets_so_many_messages_an_hour() -> None:
    sent = [NOON - STORM - one * MINUTE for one in range(MOST_AN_HOUR)]
    news = [failure_of(cause("web"))]
    assert pace(news, (), sent, NOON) == []
    assert sizes(pace(news, (), sent[1:], NOON)) == [1]


def test_what_is_critical_never_waits() -> None:
    urgent = failure_of(cause("db", severity=Severity.CRITICAL))
    rest = failure_of(cause("web"))
    sent = [NOON] * MOST_AN_HOUR
    assert pace([rest, urgent], (), sent, NOON) == [Batch(news=(urgent,))]
    at_night = NOON.replace(hour=23)
    assert pace([rest, urgent], (), (), at_night, {"shop": [NIGHT]}) == [Batch(news=(urgent,))]


def test_a_flapping_service_is_one_message_with_its_count_every_half_hour() -> None:
    past = [
        cause(
            "web",
            NOON - minutes * MINUTE,
            reported=SentNotifications(times=1, last_at=NOON - minutes * MINUTE, end_at=NOON - minutes * MINUTE),
        )
        for minutes in range(40, 40 - FLAPS + 1, -1)
    ]
    now = cause("web")
    news = [failure_of(now)]
    causes = [*past, now]
    last = NOON - 38 * MINUTE
    assert pace(news, causes, (), last + FLAPPING_EVERY - MINUTE) == []
    assert pace(news, causes, (), last + FLAPPING_EVERY) == [Batch(news=tuple(news), flaps=FLAPS)]
    shown = compose(Batch(news=tuple(news), flaps=FLAPS), {}, Addresses(), NOON).message
    assert shown.title == "web of shop fails again and again: 4 times within an hour"


def test_the_first_failure_of_a_cause_is_reported_though_its_service_is_flapping() -> None:
    ago = NOON - 20 * MINUTE
    reported = SentNotifications(times=1, last_at=ago, end_at=ago)
    causes = [cause("web", ago - number * MINUTE, reported=reported) for number in range(FLAPS)]
    known = cause("web")
    other = replace(
        known, error=replace(known.error, verdict=replace(known.error.verdict, category=Category.OOM_KILLED))
    )
    assert pace([failure_of(known)], [*causes, known], (), NOON) == []
    assert sizes(pace([failure_of(other)], [*causes, other], (), NOON)) == [1]


def test_that_a_service_is_healthy_again_holds_no_later_failure_back() -> None:
    ago = NOON - FLAPPING_EVERY
    reported = SentNotifications(times=1, last_at=ago, end_at=NOON - MINUTE)
    causes = [cause("web", ago - number * MINUTE, reported=reported) for number in range(FLAPS)]
    now = cause("web")
    assert sizes(pace([failure_of(now)], [*causes, now], (), NOON)) == [1]
    over = News(occasion=NotificationReason.RECOVERED, environment="shop", service="web", cause=now)
    assert pace([over], [*causes, now], (), NOON) == []


def test_quiet_hours_hold_back_until_their_end_and_then_give_one_message() -> None:
    began = NOON.replace(hour=23)
    ended_at_night = cause("web", began)
    ended_at_night = replace(
        ended_at_night,
        error=replace(ended_at_night.error, resolved_at=began + MINUTE),
        executions=[replace(TRIED, started_at=began, ended_at=began + MINUTE)],
    )
    causes = [ended_at_night, cause("api", began + MINUTE)]
    for at in (began + MINUTE, NOON.replace(day=3, hour=5, minute=59)):
        assert (
            pace(due(causes, at, forgotten=span_to_remember([NIGHT], at, FORGOTTEN)), causes, (), at, {"shop": [NIGHT]})
            == []
        )
    end = NOON.replace(day=3, hour=6)
    news = due(causes, end, forgotten=span_to_remember([NIGHT], end, FORGOTTEN))
    assert [one.occasion for one in news] == [NotificationReason.RECOVERED, NotificationReason.FAILED]
    assert sizes(pace(news, causes, (), end, {"shop": [NIGHT]})) == [2]
    later = end + FORGOTTEN
    assert sizes(pace(due(causes, later), causes, (), later, {"shop": [NIGHT]})) == [1]


def test_quiet_hours_begin_on_their_days_and_end_on_the_next() -> None:
    weekend = QuietHours.model_validate({"days": ["saturday"], "from": time(0), "to": time(0)})
    saturday = datetime(2026, 3, 7, tzinfo=UTC)
    assert quiet_times([weekend], saturday + timedelta(hours=5)) == [(saturday, saturday + timedelta(days=1))]
    assert quiet_times([weekend], saturday + timedelta(days=3)) == []
