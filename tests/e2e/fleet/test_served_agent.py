"""`roas serve`: one process watches all environments, and the UI shows that it does."""

from __future__ import annotations

import signal
from typing import Any

import httpx
import pytest

from tests.e2e.fleet.conftest import LocalHost
from tests.support.ports import free_port
from tests.support.prefect_server import ask

pytestmark = [pytest.mark.engine, pytest.mark.flow]


@pytest.mark.campaign
def test_one_process_watches_all_environments_of_serve(host: LocalHost) -> None:
    names = [host.declare(), host.declare()]
    for name in names:
        host.up(name)
    port = free_port()
    serving = host.begin(command="serve", ROAS_SERVER_PORT=str(port))

    def answer(path: str, question: dict[str, Any] | None = None) -> Any:
        auth = (host.settings.prefect_home / "auth_string").read_text().strip()
        return ask(f"http://127.0.0.1:{port}/api", auth, path, question)

    def pages() -> set[str]:
        try:
            return {str(one["key"]) for one in answer("artifacts/filter", {})}
        except (OSError, httpx.HTTPError):
            return set()

    for name in names:
        host.until(lambda name=name: f"watching {name}\n" in host.text(), seconds=300)  # type: ignore[misc]
    host.kill(names[1])
    host.until(lambda: f"{names[1]}: recovery of web: web healthy again" in host.text())
    host.until(lambda: {f"watch-{name}" for name in names} <= pages(), seconds=300)

    runs = answer("flow_runs/filter", {"flows": {"name": {"any_": ["watch", "monitoring"]}}})
    assert runs == [], "no run of its own watches"
    serving.send_signal(signal.SIGTERM)
    assert serving.wait(timeout=300) == 0
    seen = host.roas("doctor", names[0])
    assert "Watched by" not in seen, "the agent has ended with it"
