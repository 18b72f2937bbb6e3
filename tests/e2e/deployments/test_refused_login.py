"""A password that the data do not know: what is said meanwhile, how soon it ends, and how it is undone."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import threading
from typing import Any

import pytest

from adapters.pattern_files import shipped_set
from core.errors.explain import explain
from flows.deployment.startup import startup
from flows.deployment.update import update
from tests.e2e.flows.conftest import IMAGE, Place, flows_are_recorded, place, well
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture

pytestmark = [pytest.mark.engine, pytest.mark.flow]
__all__ = ["flows_are_recorded", "place"]

DB = f"""
db:
  image: {IMAGE}
  init: true
  pull_policy: never
  environment: {{PASSWORD: "${{DB_PASSWORD}}"}}
  volumes: ["data:/data"]
  command: [sh, -c, 'test -e /data/password || echo "$$PASSWORD" > /data/password; exec sleep 600']
  healthcheck:
    test: [CMD-SHELL, 'test "$$PASSWORD" = "$$(cat /data/password)" || {{
      echo "ERROR 1045 (28000): Access denied for user app (using password: YES)"; exit 1; }}']
    interval: 500ms
    timeout: 30s
    retries: 1000
"""


def declare(place: Place, password: str) -> None:
    place.declare(
        DB + well("web", depends_on="{db: {condition: service_healthy}}", pull_policy="never"), start_timeout_seconds=90
    )
    compose = place.folder / "compose.yaml"
    compose.write_text(f"{compose.read_text()}\nvolumes:\n  data:\n")
    (place.folder / ".env").write_text(f"DB_PASSWORD={password}\n")


def password_of(place: Place) -> str:
    command = ["docker", "exec", place.container("db"), "printenv", "PASSWORD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.campaign(seconds=20)
@pytest.mark.parametrize("flow", [startup, update])
async def test_a_refused_login_ends_the_start_which_goes_back_with_the_password_of_before(
    place: Place, caplog: pytest.LogCaptureFixture, flow: Any
) -> None:
    declare(place, "first-of-all")
    assert (await startup("test", return_state=True)).is_completed()
    declare(place, "second-wrong")

    with caplog.at_level(logging.INFO, "roas"):
        state = await flow("test", return_state=True)

    assert state.is_failed()
    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
        (error,) = stores.errors.list_by_deployment(operation.deployment_id)
    assert "db failed after" in caplog.text
    assert "login is refused" in operation.details["reason"]
    assert error.verdict.category == "auth_failed"
    assert "DB_PASSWORD changed since release" in caplog.text
    assert "undo_failed" not in operation.details
    assert "2 services proven" in operation.details["undone"]
    assert password_of(place) == "first-of-all"
    assert place.containers(running=True) == ["db", "web"]


@pytest.mark.campaign
async def test_a_cancelled_wait_for_a_refused_login_says_so(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    declare(place, "first-of-all")
    compose = place.folder / "compose.yaml"
    # On its first start a database may refuse its users for a while, so this one is waited for.
    compose.write_text(compose.read_text().replace('echo "$$PASSWORD" >', "echo another >"))
    reported = threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: reported.set() if "db has been awaited for" in record.getMessage() else None  # type: ignore[method-assign]
    logging.getLogger("roas").addHandler(handler)
    with caplog.at_level(logging.INFO, "roas"):
        running = asyncio.create_task(startup("test", return_state=True))
        await asyncio.to_thread(reported.wait)
        running.cancel()
        await asyncio.wait({running})

    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
        bundles = stores.evidence.find(deployment_id=operation.deployment_id)
    logging.getLogger("roas").removeHandler(handler)
    explained = explain(operation, shipped_set(), bundles=bundles)
    assert "Access denied for user app" in str((explained.headline, explained.lines))
    reason = operation.details["reason"]
    assert "cancelled before it had ended; db was awaited: its health check has not passed yet" in reason


@pytest.mark.campaign
async def test_a_start_that_replaced_nothing_gives_nothing_new_values_as_it_is_undone(place: Place) -> None:
    declare(place, "first-of-all")
    assert (await startup("test", return_state=True)).is_completed()
    declare(place, "second-wrong")
    compose = place.folder / "compose.yaml"
    # Compose makes volumes before containers, and the engine has no such driver.
    compose.write_text(compose.read_text().replace("  data:\n", "  data:\n  more: {driver: none-such}\n"))
    compose.write_text(compose.read_text().replace('["data:/data"]', '["data:/data", "more:/more"]'))

    assert (await startup("test", return_state=True)).is_failed()

    with place.stores() as stores:
        operation = stores.operations.history(environment="test")[0]
    assert "undo_failed" not in operation.details, operation.details
    assert password_of(place) == "first-of-all"
    assert place.containers(running=True) == ["db", "web"]
