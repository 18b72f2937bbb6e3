from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from core.reporting.status_page import DAYS, status_view
from models.health import Health, HealthReport, ServiceHealth, ServiceVerdict
from models.overview import VerdictLevel
from models.status_page import StatusPage
from models.status_view import StatusRecords

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PAGE = StatusPage(title="Shop", services={"web": "Website", "db": "Data"})
HOUR = timedelta(hours=1)


def report(at: datetime, **services: ServiceHealth) -> HealthReport:
    verdicts = tuple(
        ServiceVerdict(service=name, health=health, reason="a secret reason") for name, health in services.items()
    )
    return HealthReport(environment="shop", overall=Health.HEALTHY, checked_at=at, services=verdicts)


def well(at: datetime) -> HealthReport:
    return report(at, web=ServiceHealth.HEALTHY, db=ServiceHealth.HEALTHY, worker=ServiceHealth.STOPPED)


def web_down(at: datetime) -> HealthReport:
    return report(at, web=ServiceHealth.STOPPED, db=ServiceHealth.HEALTHY)


def measured(hours: int) -> frozenset[datetime]:
    return frozenset(NOW.replace(minute=0) - place * HOUR for place in range(hours))


def records(*reports: HealthReport, hours: int = 24 * 100, **more: object) -> StatusRecords:
    facts = {"checked_at": NOW, "measured_hours": measured(hours)} | more
    return StatusRecords(now=NOW, reports=reports, **facts)  # type: ignore[arg-type]


def test_only_what_the_file_names_is_shown() -> None:
    view = status_view(PAGE, records(well(NOW - 100 * 24 * HOUR)))

    assert [service.name for service in view.services] == ["Website", "Data"]
    assert "worker" not in repr(view)
    assert "secret reason" not in repr(view)


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (ServiceHealth.HEALTHY, "works"),
        (ServiceHealth.COMPLETED, "works"),
        (ServiceHealth.DEGRADED, "works with problems"),
        (ServiceHealth.STARTING, "works with problems"),
        (ServiceHealth.UNHEALTHY, "does not work"),
        (ServiceHealth.STOPPED, "does not work"),
        (ServiceHealth.UNPROVEN, "runs, not proven"),
        (ServiceHealth.UNKNOWN, "not known"),
    ],
)
def test_each_health_has_words_for_visitors(health: ServiceHealth, words: str) -> None:
    view = status_view(PAGE, records(report(NOW, web=health, db=ServiceHealth.HEALTHY)))

    assert view.services[0].verdict.words == words
    # The worst of all services is the verdict on the whole.
    assert view.verdict.words == words


def test_what_nothing_has_confirmed_lately_is_not_known() -> None:
    old = status_view(PAGE, records(well(NOW - HOUR), checked_at=NOW - HOUR))
    never = status_view(PAGE, StatusRecords(now=NOW))

    assert {service.verdict.words for service in (*old.services, *never.services)} == {"not known"}


def test_a_stop_on_request_is_said_and_is_no_incident() -> None:
    stop = NOW - 5 * HOUR
    down = report(stop + HOUR / 2, web=ServiceHealth.STOPPED, db=ServiceHealth.STOPPED)

    view = status_view(PAGE, records(well(NOW - 90 * HOUR), down, stopped_at=stop, planned=((stop, NOW),)))

    assert view.verdict.level is VerdictLevel.OFF
    assert view.incidents == ()
    assert view.services[0].percent == 100


def test_an_outage_is_an_incident_with_its_length_and_lowers_its_day() -> None:
    began = NOW - 36 * HOUR
    view = status_view(PAGE, records(well(NOW - 90 * 24 * HOUR), web_down(began), well(began + 2.4 * HOUR)))

    website, data = view.services
    assert [(incident.service, incident.began_at, incident.ended_at) for incident in view.incidents] == [
        ("Website", began, began + 2.4 * HOUR)
    ]
    # It began at 00:00 of a whole day, and took a tenth of it.
    assert website.days[-2].percent == pytest.approx(90)
    assert website.days[-1].percent == website.days[-3].percent == 100
    assert data.percent == 100
    assert len(website.days) == DAYS


def test_an_outage_that_lasts_has_no_end() -> None:
    view = status_view(PAGE, records(well(NOW - 30 * HOUR), web_down(NOW - HOUR)))

    assert view.incidents[0].ended_at is None
    assert view.services[0].days[-1].percent == pytest.approx(100 * 11 / 12)


def test_hours_that_nothing_measured_are_neither_up_nor_down() -> None:
    began = NOW - 48 * HOUR
    view = status_view(PAGE, records(web_down(began), well(began + HOUR), hours=2))

    days = view.services[0].days
    assert days[-1].percent == 100
    assert days[-2].percent is None
    # The outage itself is known.
    assert days[-3].percent == 0
    assert status_view(PAGE, records(well(NOW), hours=0)).services[0].percent is None


def test_a_report_without_services_ends_no_outage() -> None:
    view = status_view(PAGE, records(web_down(NOW - 3 * HOUR), report(NOW - 2 * HOUR), web_down(NOW - HOUR)))

    assert [(incident.began_at, incident.ended_at) for incident in view.incidents] == [(NOW - 3 * HOUR, None)]


def test_a_page_names_at_least_one_service() -> None:
    with pytest.raises(ValidationError):
        StatusPage(title="Shop", services={})
