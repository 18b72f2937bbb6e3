from __future__ import annotations

import shutil
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from redis import Redis

from core.errors.impact import add_experience
from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.monitoring.collection import SCHEDULED_EVERY, collection
from flows.recovery.error_recovery import error_recovery
from models.errors import ImpactType
from models.health import Health
from models.metrics import HOST, DependencyStatus
from models.records import EvaluationRecord
from models.recovery import RecoveryMethod
from tasks.monitoring.watch_lock import AGENT, watching_alone
from tests.e2e.flows.conftest import Place, well
from tests.integration.adapters.test_probes import redis_server
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.store_rows import series

pytestmark = [pytest.mark.engine, pytest.mark.flow]

PAIR = well("base") + well("top", depends_on="{base: {condition: service_healthy}}")


async def test_collects_host_services_and_dependencies_into_the_store(place: Place) -> None:
    place.declare(PAIR)
    await startup("test")

    await collection("test")
    report = await collection("test")

    assert report.overall_status == "healthy"
    assert report.gaps == ()
    assert {"cpu_usage", "memory_bytes", "restarts_total"} <= set(report.metrics["base"])
    assert {"cpu_usage", "memory_usage", "disk_usage"} <= set(report.metrics[HOST])
    with place.stores() as stores:
        (need,) = stores.dependencies.all("test")
        assert (need.service, need.depends_on, need.status) == ("top", "base", DependencyStatus.ACTIVE)
        since = datetime.now(UTC) - timedelta(minutes=5)
        assert len(series(stores, "test", "base", "memory_bytes", since)) == 2


@pytest.mark.parametrize("carried", [False, True], ids=["by its schedule", "beside an agent"])
async def test_a_schedule_of_five_minutes_misses_no_collection_and_an_agent_of_one_does(
    place: Place, carried: bool
) -> None:
    place.declare(PAIR, collect_every_seconds=60)
    with place.stores() as stores:
        before = datetime.now(UTC) - timedelta(minutes=5)
        stores.evaluations.record(EvaluationRecord(environment="test", evaluated_at=before))

    with watching_alone("test", AGENT) if carried else nullcontext():
        report = await collection("test", act=False)

    assert report.health is not None
    assert any("nothing was collected" in finding for finding in report.health.findings) is carried


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
async def test_a_snapshot_outlives_the_schedule_where_no_agent_collects(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.declare(PAIR, collect_every_seconds=15)
    with redis_server(tmp_path) as port, Redis(port=port) as redis:
        monkeypatch.setenv("ROAS_REDIS_URL", f"redis://127.0.0.1:{port}/0")

        await collection("test", act=False)

        assert redis.ttl("roas:snapshot:test") > SCHEDULED_EVERY.total_seconds()
        with watching_alone("test", AGENT):
            await collection("test", act=False)
        assert 0 < redis.ttl("roas:snapshot:test") <= 45


async def test_a_killed_service_is_seen_restarted_and_the_record_is_reported(place: Place) -> None:
    place.declare(PAIR)
    await startup("test")
    docker_command("kill", place.container("base"))

    report = await collection("test")

    assert report.metrics["base"]["exit_code"] == 137
    assert [outcome.method for outcome in report.recoveries] == [RecoveryMethod.AUTOMATIC]
    assert report.recoveries[0].success
    assert place.containers(running=True) == ["base", "top"]
    with place.stores() as stores:
        error = stores.errors.get(report.recoveries[0].error_id)
        assert error.service == "base"
        assert error.resolved_at is not None
        (execution,) = stores.recoveries.find(error_id=error.error_id)
        assert execution.success
        assert [(step.name, step.target) for step in execution.steps] == [
            ("restart", "base"),
            ("verify", "base"),
            ("ask again", "top"),
        ]
        assert execution.attempt_id == f"{error.error_id}#1"
        moments = (execution.detected_at, execution.diagnosed_at, execution.acted_at, execution.verified_at)
        assert list(moments) == sorted(filter(None, moments))
        # It was deployed a moment ago, which is weighed and kept.
        assert error.evidence["deployed_seconds_ago"] < 900
        assert "A deployment ended" in error.verdict.reason
        (impact,) = stores.errors.impacts(error.error_id)
        assert impact.affected_services == ("base", "top")
        assert impact.impact_type is ImpactType.SERVICE_DOWN
        # Nothing like it was mended here before: the estimate is the usual time.
        assert impact.estimated_recovery_seconds == 180
        own = stores.recoveries.durations("test", error.verdict.category)
        assert 0 < add_experience(impact, own).estimated_recovery_seconds < 180
        assert [alert.service for alert in stores.alerts.latest(environment="test")] == ["base"]
        assert [alert.resolved_at is not None for alert in stores.alerts.latest(environment="test")] == [True]
    after = await collection("test")
    assert after.overall_status == "healthy"
    assert after.recoveries == ()


async def test_a_service_stopped_by_a_person_stays_stopped(place: Place) -> None:
    place.declare(PAIR)
    await startup("test")
    docker_command("stop", "-t", "1", place.container("top"))

    report = await collection("test")

    assert [outcome.method for outcome in report.recoveries] == [RecoveryMethod.NONE_NEEDED]
    assert place.containers(running=True) == ["base"]


async def test_an_engine_that_is_gone_is_recorded_not_raised(place: Place) -> None:
    place.declare(PAIR, engine=f"unix://{place.folder}/no.sock")

    report = await collection("test")

    assert report.overall_status == "unknown"
    assert any("containers" in gap for gap in report.gaps)
    assert HOST in report.metrics
    with place.stores() as stores:
        assert stores.errors.list_unresolved("test")[0].verdict.category == "docker_daemon_unreachable"
        (row,) = stores.health.history("test")
        assert row.overall is Health.UNHEALTHY
        assert any("containers" in finding for finding in row.findings)


async def test_an_error_only_a_person_can_mend_becomes_a_ticket_with_commands(place: Place) -> None:
    place.declare(PAIR)

    outcome = await error_recovery(
        "test",
        "redis.exceptions.AuthenticationError: WRONGPASS invalid username-password pair",
        service="top",
    )

    assert outcome.method is RecoveryMethod.MANUAL_REQUIRED
    assert outcome.steps
    with place.stores() as stores:
        assert [ticket.ticket_id for ticket in stores.tickets.find(environment="test")] == [outcome.ticket_id]


async def test_an_environment_that_was_stopped_on_request_wakes_nobody(place: Place) -> None:
    place.declare(PAIR)
    await startup("test")
    await stop("test")

    report = await collection("test")

    assert report.overall_status == "unhealthy"
    assert report.alerts == ()
    assert report.recoveries == ()
    assert place.containers(running=True) == []
