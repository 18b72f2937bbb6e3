"""Each probe ends at its time limit, whatever a server does."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from models.environments import Probe
from tests.integration.adapters.conftest import ComposeProject
from tests.support.probed import ask, chattering, silent

pytestmark = pytest.mark.engine
PROBE: TypeAdapter[Probe] = TypeAdapter(Probe)
KINDS = {
    "http": {},
    "redis": {},
    "prometheus": {},
    "postgresql": {},
    "mysql": {},
    "amqp": {},
    "smtp": {},
    "dns": {"query_name": "example.org"},
    "certificate": {},
}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_server_that_says_nothing_fails_at_its_time_limit(on_the_host: ComposeProject, kind: str) -> None:
    with silent() as port:
        probe = PROBE.validate_python({"kind": kind, "port": port, "timeout_seconds": 0.3} | KINDS[kind])
        result = await ask(on_the_host, probe)
    if kind == "dns":
        # It is asked over UDP, where nothing listens.
        assert "does it listen on UDP port" in result.detail or result.detail == "no answer within 0.3 s"
    else:
        assert result.detail == "no answer within 0.3 s"
    assert not result.ok


@pytest.mark.parametrize("words", [b" ", b"220-wait\r\n", b"\0", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 64])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "dns"])
async def test_a_server_that_never_stops_talking_fails_in_time(
    on_the_host: ComposeProject, kind: str, words: bytes
) -> None:
    async with chattering(words) as port:
        probe = PROBE.validate_python({"kind": kind, "port": port, "timeout_seconds": 0.5} | KINDS[kind])
        result = await ask(on_the_host, probe)
    assert not result.ok
    assert result.detail
