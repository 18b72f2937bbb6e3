"""Hosts: their contact and clocks, what belongs to which, and what is reported of them once."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from adapters.stores import Stores
from models.failures import BadInputError, NotFoundError
from models.hosts import HostIdentity
from models.operations import OperationStatus, OperationType
from models.settings import Settings
from tests.integration.stores.test_deployments import operation
from tests.support.clocks import python_with_wrong_clock

ALPHA = HostIdentity(host_id="h-1", name="alpha")
BETA = HostIdentity(host_id="h-2", name="beta")
MINUTE = timedelta(minutes=1)


def contact(stores: Stores, host: HostIdentity, backlog: int = 0):
    return stores.hosts.report(host, version="1.2", engine="unix:///var/run/docker.sock", backlog=backlog)


def set_host(stores: Stores, host_id: str, change: str) -> None:
    with stores.databases["deployment_logs"].write() as connection:
        connection.execute(sa.text(f"UPDATE hosts SET {change} WHERE host_id = :id"), {"id": host_id})


def long_ago(stores: Stores) -> str:
    return f"last_contact = '{stores.hosts.now() - 2 * MINUTE:%Y-%m-%d %H:%M:%S.%f}'"


def test_a_host_in_contact_is_known_with_its_version_and_backlog(stores: Stores) -> None:
    first = contact(stores, ALPHA)
    again = contact(stores, HostIdentity(host_id="h-1", name="renamed"), backlog=7)

    assert stores.hosts.all() == [again]
    assert (again.name, again.backlog, again.version) == ("renamed", 7, "1.2")
    assert again.first_contact == first.first_contact
    assert again.last_contact >= first.last_contact
    assert abs(again.clock_skew_seconds) < 5


def test_a_host_is_found_by_its_name_or_id_unless_two_have_the_name(stores: Stores) -> None:
    contact(stores, ALPHA)
    assert stores.hosts.get_by_name("alpha") == stores.hosts.get_by_name("h-1")
    contact(stores, HostIdentity(host_id="h-3", name="alpha"))
    with pytest.raises(BadInputError, match=r"h-1, h-3"):
        stores.hosts.get_by_name("alpha")
    with pytest.raises(NotFoundError):
        stores.hosts.get_by_name("gamma")


def test_an_environment_belongs_to_the_first_host_until_it_is_moved(stores: Stores) -> None:
    assert stores.hosts.owner("shop") is None
    assert stores.hosts.bind("shop", ALPHA) == "h-1"
    assert stores.hosts.bind("shop", BETA) == "h-1"
    assert not stores.hosts.move("shop", BETA, instead_of="h-3")
    assert stores.hosts.move("shop", BETA, instead_of="h-1")
    assert stores.hosts.owner("shop") == "h-2"
    assert not stores.hosts.let_go("shop", ALPHA)
    assert stores.hosts.let_go("shop", BETA)
    assert stores.hosts.bindings() == {}


def test_a_silent_host_is_reported_once_and_so_is_its_return(stores: Stores) -> None:
    contact(stores, ALPHA)
    assert stores.hosts.notice() == []
    set_host(stores, "h-1", long_ago(stores))

    reported = stores.hosts.notice()
    assert [(one.kind, one.ended, one.host.name) for one in reported] == [("silent", False, "alpha")]
    assert stores.hosts.notice() == [], "it is reported once"

    contact(stores, ALPHA)
    back = stores.hosts.notice()
    assert [(one.kind, one.ended, one.since) for one in back] == [("silent", True, reported[0].since)]
    assert stores.hosts.notice() == []


def test_a_clock_that_is_wrong_by_more_than_five_seconds_is_reported_once_until_it_is_mended(stores: Stores) -> None:
    contact(stores, ALPHA)
    set_host(stores, "h-1", "clock_skew_seconds = -5.5")

    assert [(one.kind, one.ended) for one in stores.hosts.notice()] == [("skewed", False)]
    assert stores.hosts.notice() == []

    contact(stores, ALPHA)
    assert [(one.kind, one.ended) for one in stores.hosts.notice()] == [("skewed", True)]


def test_the_silence_of_a_host_that_a_user_dismissed_is_not_reported(stores: Stores) -> None:
    contact(stores, ALPHA)
    assert stores.hosts.dismiss("h-1")
    set_host(stores, "h-1", long_ago(stores))
    assert stores.hosts.notice() == []

    contact(stores, ALPHA)
    assert stores.hosts.all()[0].dismissed_at is None, "it is expected again once it is in contact"


@pytest.mark.shared
@pytest.mark.parametrize("seconds", [600, pytest.param(-600, marks=pytest.mark.campaign)])
def test_a_host_with_a_wrong_clock_steals_no_lease_and_loses_none(stores: Stores, settings: Settings, seconds) -> None:
    program = """
from datetime import UTC, datetime, timedelta
from adapters.stores import Stores
from models.hosts import HostIdentity
from models.settings import Settings
with Stores.open(Settings()) as stores:
    take, now = stores.leases.acquire, datetime.now(UTC)
    stolen = take("prod", "theirs", "start", now, timedelta(minutes=1)).acquired
    own = take("dev", "theirs", "start", now, timedelta(minutes=1)).acquired
    beta = HostIdentity(host_id="h-2", name="beta")
    print(stolen, own, round(stores.hosts.report(beta, version="", engine="", backlog=0).clock_skew_seconds))
"""
    assert stores.leases.acquire("prod", "ours", "start", datetime.now(UTC), MINUTE).acquired

    said = python_with_wrong_clock(seconds, program, variables(settings))

    assert said == f"False True {seconds}"
    held = stores.leases.current("dev", datetime.now(UTC))
    assert held is not None, "the lease of a host whose clock is behind is not expired"
    assert held.expires_at <= datetime.now(UTC) + MINUTE, "that of one whose clock is ahead does not last longer"
    assert [(one.host.name, one.kind) for one in stores.hosts.notice()] == [("beta", "skewed")]


@pytest.mark.shared
@pytest.mark.parametrize("seconds", [600, pytest.param(-600, marks=pytest.mark.campaign)])
def test_operations_of_a_host_with_a_wrong_clock_are_in_order(stores: Stores, settings: Settings, seconds) -> None:
    program = """
from datetime import UTC, datetime, timedelta
from adapters.stores import Stores
from models.operations import Operation, OperationStatus, OperationType
from models.settings import Settings
now = datetime.now(UTC)
stop = Operation(deployment_id="stop", operation_type=OperationType.STOP, environment="prod",
                 status=OperationStatus.RUNNING, started_at=now)
with Stores.open(Settings()) as stores:
    stores.operations.begin(stop)
    stores.operations.finish("stop", OperationStatus.SUCCESS, now + timedelta(seconds=2))
"""
    stores.operations.begin(operation("first", started_at=datetime.now(UTC)))
    python_with_wrong_clock(seconds, program, variables(settings))
    stores.operations.begin(operation("last", started_at=datetime.now(UTC)))

    assert [one.deployment_id for one in stores.operations.history()] == ["last", "stop", "first"]
    assert [one.deployment_id for one in stores.operations.latest_recorded("prod")] == ["last", "stop", "first"]
    stopped = stores.operations.last_success("prod", OperationType.STOP)
    assert stopped is not None
    assert stopped.status is OperationStatus.SUCCESS
    assert abs(stopped.started_at - datetime.now(UTC)) < 2 * MINUTE
    assert stopped.duration is not None
    assert timedelta(seconds=1) < stopped.duration < timedelta(seconds=5)


def variables(settings: Settings) -> dict[str, str]:
    return {"ROAS_DATA_DIR": f"{settings.data_dir}-elsewhere", "ROAS_STORES_URL": settings.stores_url or ""}


@pytest.mark.shared
def test_an_environment_is_not_taken_from_a_host_that_came_back_after_the_question(stores: Stores) -> None:
    contact(stores, ALPHA)
    stores.hosts.bind("shop", ALPHA)
    assert not stores.hosts.move("shop", BETA, instead_of="h-1"), "it is in contact"
    set_host(stores, "h-1", long_ago(stores))
    now = stores.hosts.now()
    stores.leases.acquire("shop", "d-1", "start", now, MINUTE)
    assert not stores.hosts.move("shop", BETA, instead_of="h-1"), "an operation began"
    stores.leases.release("shop", "d-1")
    assert stores.hosts.move("shop", BETA, instead_of="h-1")
    assert stores.hosts.owner("shop") == "h-2"
