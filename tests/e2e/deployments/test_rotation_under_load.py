"""Under fifty queries a second a rotation costs no more than the restart of its server."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter

import pytest

from flows.deployment.rotate import rotate_secret
from flows.deployment.startup import startup
from tests.e2e.deployments.test_rotation_of_servers import CHECK, SERVERS, declare, password_of, shop  # noqa: F401
from tests.e2e.deployments.test_snapshots import image  # noqa: F401 - fixture
from tests.e2e.flows.conftest import Place, flows_are_recorded, place, until  # noqa: F401 - fixtures
from tests.support.login_load import ANSWERED, AWAY, REFUSED, load
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.ports import free_port

pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=60)]

REDIS = (
    "command: [redis-server, --requirepass, '${DB_PASSWORD}']",
    "REDISCLI_AUTH: '${DB_PASSWORD}'",
    "/data",
    "expose: [6379]",
    "redis-cli ping | grep PONG",
    'REDISCLI_AUTH="$$P" redis-cli -h db ping | grep PONG',
)
PORTS = {"postgresql": 5432, "mariadb": 3306, "redis": 6379}
_ANSWERS = 100
_BESIDE = 2.0
"""Seconds that a query waits at most, which a pause at both ends of the restart may be longer by."""


def restart_of(place: Place, began: float) -> tuple[float, float]:  # noqa: F811
    """When the engine was first asked to end the server, and when the new one was first healthy."""
    its = [f"label=com.docker.compose.project={place.project}", "label=com.docker.compose.service=db"]
    words = ["docker", "events", "--since", f"{began:.3f}", "--until", f"{time.time():.3f}", "--format", "{{json .}}"]
    words += [word for label in its for word in ("--filter", label)]
    lines = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
    events = [(event["Action"], event["timeNano"] / 1e9) for event in map(json.loads, lines)]
    ended = next(at for action, at in events if action == "kill")
    return ended, next(at for action, at in events if action == "health_status: healthy" and at > ended)


@pytest.mark.parametrize("kind", PORTS)
async def test_no_query_with_the_new_password_is_refused_and_none_waits_longer_than_the_restart(
    shop: Place,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    port = free_port()
    server = list(SERVERS.get(kind, REDIS))
    # PostgreSQL waits at SIGTERM for its clients to leave; its official image asks for SIGINT.
    signal = "SIGINT" if kind == "postgresql" else "SIGTERM"
    server[3] = f"ports: ['127.0.0.1:{port}:{PORTS[kind]}']\n  stop_signal: {signal}"
    monkeypatch.setitem(SERVERS, kind, tuple(server))
    old = declare(shop, kind)
    await startup("test")

    with load(kind, port, shop.folder / ".env") as seen:
        await until(lambda: seen.answered(old) >= _ANSWERS)
        began = time.time()
        await rotate_secret("test", secret="DB_PASSWORD")
        took, new = time.time() - began, password_of(shop)
        await until(lambda: seen.answered(new) >= _ANSWERS)
    ended, healthy = restart_of(shop, began)

    queries = sorted(seen.queries, key=lambda one: one.at)
    refused = [one for one in queries if one.ended == REFUSED]
    window = max((one.at for one in refused), default=0) - min((one.at for one in refused), default=0)
    counted = Counter(one.ended for one in queries)
    print(
        f"{kind}: {len(queries)} queries in {queries[-1].at - queries[0].at:.1f} s ({dict(counted)}); "
        f"rotation {took:.1f} s; restart {healthy - ended:.2f} s; longest without an answer: new logins "
        f"{seen.longest(kept=False):.2f} s, open connections {seen.longest(kept=True):.2f} s; refused: "
        f"old {sum(one.password == old for one in refused)} within {window:.2f} s, "
        f"new {sum(one.password == new for one in refused)}"
    )
    assert {one.password for one in refused} <= {old}
    assert max(seen.longest(kept=True), seen.longest(kept=False)) <= healthy - ended + _BESIDE
    assert all(one.ended != AWAY for one in queries if one.at < ended - _BESIDE)
    assert all(one.ended == ANSWERED for one in queries if one.at > healthy + _BESIDE)
