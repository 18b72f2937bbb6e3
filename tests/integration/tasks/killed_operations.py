"""Operations over the three stores, with the process that records them killed before each of its statements.

The tasks that the flows use record a start that fails, a recovery of it without success, the start that resolves it,
and a recovery that helps. For every statement a child process is killed with SIGKILL right before it; then the
stores are read at one moment, and must show each part of an operation completely or not at all.

    python -m tests.integration.tasks.killed_operations FOLDER            every statement
    python -m tests.integration.tasks.killed_operations FOLDER --every 5  what the gate runs
    python -m tests.integration.tasks.killed_operations FOLDER --naive    control: one store after another
    python -m tests.integration.tasks.killed_operations FOLDER --url URL  in PostgreSQL; what it holds is emptied
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from adapters.pattern_files import shipped_patterns
from adapters.stores import Stores, Together
from adapters.stores.recovery_writes import RecordError
from models.errors import BusinessImpact, Impact, ImpactType
from models.health import Health, HealthReport
from models.operations import Operation, OperationStatus, OperationType
from models.operations.record import OperationRecord
from models.recovery import RecoveryExecution, TicketState
from models.settings import Settings
from tasks.deployment.operations import begin_operation, finish_operation
from tasks.recovery.records import finish_attempt, open_ticket, record_error, write_attempt
from tasks.runtime.stores import open_stores
from tests.integration.stores.values import BUNDLE, ERROR, NOON, TICKET
from tests.support.killing import live_until

PATTERN = shipped_patterns()[0].name
FAILED = replace(ERROR, error_id="failed", deployment_id="prod-1", verdict=replace(ERROR.verdict, pattern_name=PATTERN))
SEEN = replace(ERROR, error_id="seen", deployment_id=None, service="redis", source="collection")
IMPACT = Impact(
    impact_type=ImpactType.SERVICE_DOWN,
    affected_services=("web",),
    estimated_recovery_seconds=60,
    business_impact=BusinessImpact.HIGH,
)
HEALTH = HealthReport(
    environment="prod", overall=Health.UNHEALTHY, checked_at=NOON, services=(), deployment_id="prod-1"
)
ATTEMPT = RecoveryExecution(
    error_id="seen",
    strategy=ERROR.verdict.strategy,
    started_at=NOON,
    attempt_id="seen#1",
    environment="prod",
    service="redis",
)
IN_VAIN = replace(ATTEMPT, error_id="failed", attempt_id="failed#1", service="web")


def start(name: str) -> Operation:
    return Operation(
        deployment_id=name,
        operation_type=OperationType.START,
        environment="prod",
        status=OperationStatus.RUNNING,
        started_at=NOON,
    )


async def live() -> None:
    """The stories, as flows write them down."""
    await begin_operation(start("prod-1"))
    await record_error.fn(RecordError(error=FAILED, impact=IMPACT, bundles=("ev1",), health=HEALTH))
    await write_attempt.fn(IN_VAIN)
    in_vain = replace(IN_VAIN, ended_at=NOON, success=False, final_status="web did not answer")
    await finish_attempt.fn(in_vain, was="exited", ticket=replace(TICKET, error_id="failed"))
    await finish_operation("prod-1", OperationStatus.FAILED, NOON, OperationRecord(reason="web did not start"))
    await begin_operation(start("prod-2"))
    await finish_operation(
        "prod-2", OperationStatus.SUCCESS, NOON + timedelta(minutes=1), OperationRecord(), settles="prod"
    )
    await record_error.fn(RecordError(error=SEEN, impact=IMPACT))
    await open_ticket.fn(replace(TICKET, ticket_id="t2", error_id="seen"))
    await write_attempt.fn(ATTEMPT)
    ended = NOON + timedelta(minutes=2)
    await finish_attempt.fn(replace(ATTEMPT, ended_at=ended, success=True, final_status="well"), was="exited")


def halves(stores: Together) -> list[str]:
    """Every operation that is recorded in part."""
    operations = {one.deployment_id: one for one in stores.operations.history()}
    errors = {one.error_id: one for one in stores.errors.latest()}
    closed = {one.error_id: one.state is TicketState.RESOLVED for one in stores.tickets.find()}
    matched = {one.name: one.match_count for one in stores.patterns.all()}
    reported = "failed" in errors
    failure = {
        "the error": reported,
        "its id in the operation": operations.get("prod-1", start("")).details.get("error_id") == "failed",
        "its impact": bool(stores.errors.impacts("failed")),
        "its evidence": bool(stores.evidence.find(error_id="failed")),
        "its pattern's count": matched[PATTERN] == 1,
        "its health": bool(stores.health.history(deployment_id="prod-1")),
    }
    in_vain = {
        "the attempt's failure": any(one.success is False for one in stores.recoveries.find("failed")),
        "its ticket": "failed" in closed,
    }
    answer = {
        "the start's success": "prod-2" in operations and operations["prod-2"].status is OperationStatus.SUCCESS,
        "the earlier error's end": reported and errors["failed"].resolved_at is not None,
        "the ticket's end": closed.get("failed", False),
    }
    recovery = {
        "the attempt's success": any(one.success for one in stores.recoveries.find("seen")),
        "the error's end": "seen" in errors and errors["seen"].resolved_at is not None,
        "the ticket's end": closed.get("seen", False),
        "the service's change of state": any(
            change.details.get("attempt") == "seen#1" for name in operations for change in stores.progress.changes(name)
        ),
    }
    found = [
        f"{details} without {part}"
        for details, parts in (
            ("a failure", failure),
            ("a failed recovery", in_vain),
            ("an answer", answer),
            ("a recovery", recovery),
        )
        if any(parts.values())
        for part, is_there in parts.items()
        if not is_there
    ]
    if "prod-1" in operations and operations["prod-1"].status is OperationStatus.FAILED and not reported:
        found.append("a failed operation without an error")
    return found


def prepare() -> None:
    stores = open_stores()
    stores.evidence.keep(BUNDLE)
    stores.close()


def new_place(folder: Path, url: str | None, place: int) -> None:
    """Empty stores, made once and copied."""
    if url is not None:
        for database in open_stores().databases.values():
            with database.write() as connection:
                for table in reversed(sa.inspect(connection).get_table_names(schema=database.name)):
                    if table not in ("alembic_version", "cross_store_version"):
                        connection.exec_driver_sql(f'TRUNCATE "{table}" CASCADE')
        # An opening writes the shipped patterns again.
        Stores.open(Settings()).close()
        prepare()
        return
    if not (folder / "empty").exists():
        os.environ["ROAS_DATA_DIR"] = str(folder / "empty")
        prepare()
    shutil.copytree(folder / "empty", folder / f"{place}")
    os.environ["ROAS_DATA_DIR"] = str(folder / f"{place}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--naive", action="store_true")
    parser.add_argument("--url")
    given = parser.parse_args()
    os.environ["ROAS_DATA_DIR"] = str(given.folder / "data")
    if given.url:
        os.environ["ROAS_STORES_URL"] = given.url
    if given.naive:
        Stores.together = lambda self: nullcontext(self)  # type: ignore[method-assign, assignment, return-value]
    statement, reported, began = 0, 0, datetime.now(UTC)
    seen: set[str] = set()
    while True:
        new_place(given.folder, given.url, statement)
        ended = live_until(statement, lambda: asyncio.run(live()))
        with Stores.open(Settings()) as stores, stores.read_one_moment() as moment:
            torn = halves(moment)
            reported += bool(torn)
            seen |= {f"{one} (before statement {statement})" for one in torn}
            complete = len(moment.errors.latest()) == 2 and moment.errors.list_unresolved() == []
        if not given.url:
            shutil.rmtree(given.folder / f"{statement}")
        if ended:
            break
        statement += given.every
    took = (datetime.now(UTC) - began).total_seconds()
    print(f"{statement // given.every} kills, {reported} told in part, {took:.0f} s")
    for one in sorted(seen)[:10]:
        print(f"  {one}")
    return 0 if complete and not reported else 1


if __name__ == "__main__":
    sys.exit(main())
