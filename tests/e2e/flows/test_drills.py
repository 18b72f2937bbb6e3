"""Drills on a real engine: each fault is made, seen, repaired or undone, and measured from the records."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest

from flows.deployment.startup import startup
from flows.deployment.stop import stop
from flows.recovery.drill import drill
from models.drills import DrillRecord, Fault
from models.failures import BadInputError, EngineError
from tasks.recovery.drills import end_drill, end_left_drill, fault_places, keep_drill, make_fault, open_drill
from tasks.runtime.project import open_project
from tests.e2e.deployments.test_snapshots import image  # noqa: F401 - fixture
from tests.e2e.flows.conftest import Place, until, well
from tests.e2e.flows.test_watch import watching
from tests.support.docker_command import docker_command
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]


def allowed(*faults: Fault, **more: Any) -> str:
    return json.dumps({"faults": [str(fault) for fault in faults], **more})


async def drilled(place: Place, fault: Fault, *, seconds: float = 60, service: str = "web") -> DrillRecord:
    await drill("test", service=service, fault=fault, confirm="test", seconds=seconds)
    with place.stores() as stores:
        record = next(filter(None, (one.record.drill for one in stores.operations.drills("test"))))
    assert record is not None
    assert open_drill("test") is None
    return record


async def test_a_kill_is_detected_repaired_and_measured_and_no_drill_begins_where_something_is_open(
    place: Place,
) -> None:
    place.declare(well("web"), drills=allowed(Fault.KILL))
    await startup("test")
    with pytest.raises(BadInputError, match="Nothing watches test"):
        await drill("test", service="web", fault=Fault.KILL, confirm="test")
    async with watching(place):
        record = await drilled(place, Fault.KILL)
        assert record.passed, record
        assert record.undone_at is None
        assert record.verdict.startswith("detected after ")
        with pytest.raises(BadInputError, match="does not allow drills of stop"):
            await drill("test", service="web", fault=Fault.STOP, confirm="test")
    with place.stores() as stores:
        (error,) = stores.errors.latest("test")
        assert (error.first_seen, error.service) == (record.detected_at, "web")
        assert {operation.kind for operation in stores.operations.drills("test")} == {"drill"}
        assert [
            str(one.operation_type) for one in stores.operations.outcomes("test", error.first_seen.replace(year=2000))
        ] == ["start"]
    assert place.containers(running=True) == ["web"]


async def test_what_a_killed_drill_left_is_undone_twice_and_never_against_a_person(place: Place) -> None:
    place.declare(well("web", tmpfs="['/filled:size=1m']"), drills=allowed(*Fault))
    await startup("test")
    project, web = open_project("test"), place.container("web")
    places = await fault_places(project, "web", Fault.KILL)
    assert places is not None
    with place.stores() as stores:
        (begun,) = stores.operations.latest_recorded("test", 1)

    async def left(fault: Fault) -> None:
        """What a drill leaves whose process is killed right after its fault."""
        now = datetime.now(UTC)
        made = {"deployment_id": begun.deployment_id, "service": "web", "fault": fault, "made_at": now, "until": now}
        record = DrillRecord(**dict(places), **made)
        await keep_drill("test", record)
        project.engine.faults.make(record)

    def states() -> str:
        return docker_command("exec", web, "sh", "-c", "cat /proc/[0-9]*/stat | cut -d' ' -f3 | sort -u | tr -d '\\n'")

    networks = docker_command("inspect", "-f", "{{json .NetworkSettings.Networks}}", web)
    await left(Fault.UNHEALTHY)
    assert "T" in states()
    await end_left_drill("test")
    assert "T" not in states()
    await left(Fault.FULL_DISK)
    assert ".roas-drill" in docker_command("exec", web, "ls", "-A", "/filled")
    await end_left_drill("test")
    assert docker_command("exec", web, "ls", "-A", "/filled") == ""
    await left(Fault.LOST_NETWORK)
    assert docker_command("inspect", "-f", "{{json .NetworkSettings.Networks}}", web) == "{}"
    await end_left_drill("test")
    (name, before), (same, now) = (
        *json.loads(networks).items(),
        *json.loads(docker_command("inspect", "-f", "{{json .NetworkSettings.Networks}}", web)).items(),
    )
    assert (name, set(before["DNSNames"])) == (same, set(now["DNSNames"]))
    given = "{{.HostConfig.CpuQuota}} {{.HostConfig.NanoCpus}}"
    await left(Fault.SLOW)
    assert docker_command("inspect", "-f", given, web) == "1000 0"
    docker_command("update", "--cpu-quota", "50000", web)
    await end_left_drill("test")
    assert docker_command("inspect", "-f", given, web) == "50000 0", "a person's limit wins"
    docker_command("update", "--cpu-quota", "-1", web)
    await left(Fault.SLOW)
    await end_left_drill("test")
    assert docker_command("inspect", "-f", given, web) == "-1 0"
    await left(Fault.KILL)
    assert place.containers(running=True) == []
    await end_left_drill("test")
    assert place.containers(running=True) == ["web"]

    await left(Fault.STOP)
    await until(lambda: place.containers(running=True) == [])
    await stop("test")
    await end_left_drill("test")
    assert await end_drill(project) is None
    assert place.containers(running=True) == [], "a person's stop wins"
    with place.stores() as stores:
        recorded = stores.operations.get(begun.deployment_id).record.drill
    assert recorded is not None
    assert (recorded.passed, recorded.verdict) == (False, "cut off before its end; its fault was undone")


REDIS = """
web:
  image: roas/redis:local
  command: [redis-server, --save, '']
  tmpfs: ['/filled:size=2m']
  healthcheck: {test: [CMD, redis-cli, ping], interval: 1s, timeout: 1s, retries: 2, start_period: 5s}
client:
  image: debian:trixie-slim
  init: true
  command: [sleep, infinity]
  healthcheck:
    {test: [CMD, getent, hosts, web], interval: 1s, timeout: 2s, retries: 2, start_period: 9s, start_interval: 200ms}
"""


@pytest.mark.campaign(seconds=200)
async def test_each_fault_is_made_measured_and_undone(place: Place) -> None:
    faults = (Fault.STOP, Fault.UNHEALTHY, Fault.FULL_DISK, Fault.LOST_NETWORK)
    place.declare(REDIS, drills=allowed(*faults, detect_seconds=90, repair_seconds=90))
    await startup("test")
    async with watching(place):
        for fault in faults:
            record = await drilled(place, fault, seconds=5 if fault is Fault.FULL_DISK else 80)
            # A full disk does not hurt this program, and a lost network comes back only by the end of the drill.
            assert record.passed is (fault in (Fault.STOP, Fault.UNHEALTHY)), record
            assert (record.detected_at is None) is (fault is Fault.FULL_DISK), record
            assert docker_command("exec", place.container("web"), "ls", "-A", "/filled") == ""
        with pytest.raises(BadInputError, match=r"Error err-.* of test is open"):
            await drill("test", service="web", fault=Fault.STOP, confirm="test")


@pytest.mark.campaign(seconds=60)
async def test_a_slow_service_is_detected_and_has_its_processor_again_at_the_end(place: Place) -> None:
    # The check does work of its own: with a hundredth of a processor none is fast enough to do it in time.
    place.declare(
        REDIS.replace(
            "[CMD, redis-cli, ping]", '[CMD, redis-cli, eval, "for i = 1, 10000000 do end return 1", "0"]'
        ).replace("timeout: 1s", "timeout: 2s"),
        drills=allowed(Fault.SLOW, detect_seconds=60, repair_seconds=60),
    )
    await startup("test")
    async with watching(place):
        record = await drilled(place, Fault.SLOW, seconds=30)
    print(record.verdict)
    assert record.detected_at is not None
    assert docker_command("inspect", "-f", "{{.HostConfig.CpuQuota}}", place.container("web")) in ("-1", "0")


POSTGRESQL = """
db:
  image: roas/gallery:local
  command: [start-postgres]
  environment: {POSTGRES_USER: shop, POSTGRES_DB: shop, POSTGRES_PASSWORD: "${DB_PASSWORD}"}
  expose: [5432]
  healthcheck: {test: [CMD-SHELL, 'PGPASSWORD="$$POSTGRES_PASSWORD" psql -h 127.0.0.1 -U shop -d shop -c "select 1"'],
                interval: 1s, timeout: 30s, retries: 3, start_period: 20s, start_interval: 500ms}
"""


def declare_postgresql(place: Place, **drills: Any) -> None:
    (place.folder / ".env").write_text("DB_PASSWORD=correct-horse\n")
    probe = {"kind": "postgresql", "user": "shop", "password_secret": "DB_PASSWORD"}
    place.declare(
        POSTGRESQL,
        drills=allowed(Fault.REFUSED_LOGIN, **drills),
        secrets="[{name: DB_PASSWORD}]",
        services=json.dumps({"db": {"probe": probe}}),
    )


def log_in(place: Place, database: str = "shop") -> str:
    words = ("-h", "127.0.0.1", "-U", "shop", "-d", database, "-Atc", "select 1")
    return docker_command("exec", "-e", "PGPASSWORD=correct-horse", place.container("db"), "psql", *words)


def answers(place: Place) -> bool:
    ready = ("pg_isready", "-q", "-h", "127.0.0.1")
    return not subprocess.run(["docker", "exec", place.container("db"), *ready], check=False).returncode


@pytest.mark.campaign(seconds=90)
async def test_a_refused_login_is_detected_and_undone_also_where_the_drill_was_killed_and_the_server_restarted(
    place: Place,
    image: None,  # noqa: F811
) -> None:
    declare_postgresql(place, detect_seconds=60, repair_seconds=60)
    await startup("test")
    project = open_project("test")
    with place.stores() as stores:
        (begun,) = stores.operations.latest_recorded("test", 1)
    places = await fault_places(project, "db", Fault.REFUSED_LOGIN)
    assert places is not None
    assert places.database == "shop"
    now = datetime.now(UTC)
    its = {"deployment_id": begun.deployment_id, "service": "db", "fault": Fault.REFUSED_LOGIN}
    await keep_drill("test", left := DrillRecord(**dict(places), **its, made_at=now, until=now))
    await make_fault(project, left)
    with pytest.raises(AssertionError, match="not currently accepting connections"):
        log_in(place)
    docker_command("restart", place.container("db"))
    await until(lambda: answers(place))
    with pytest.raises(AssertionError, match="not currently accepting connections"):
        log_in(place)
    docker_command("stop", place.container("db"))
    with pytest.raises(EngineError, match="db does not run"):
        await end_left_drill("test")
    assert open_drill("test") is not None
    docker_command("start", place.container("db"))
    await until(lambda: answers(place))
    await end_left_drill("test")
    assert log_in(place) == "1"
    assert await end_drill(project) is None

    await until(lambda: place.health("db") == "healthy")
    async with watching(place):
        record = await drilled(place, Fault.REFUSED_LOGIN, seconds=30, service="db")
    print(record.verdict)
    assert record.detected_at is not None
    assert log_in(place) == "1"
