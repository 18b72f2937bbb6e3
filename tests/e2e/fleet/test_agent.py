"""The agent watches all environments of a host in one process, each on its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile

import pytest

from tests.e2e.fleet.conftest import LocalHost

pytestmark = pytest.mark.engine


@pytest.mark.campaign
def test_environments_are_watched_side_by_side_and_taken_up_and_let_go(host: LocalHost) -> None:
    first = host.declare()
    host.up(first)
    host.write("broken", "name: broken\nproject: [\n")
    # Nothing answers there.
    away = host.declare(engine="unix:///nowhere/docker.sock")
    agent = host.begin()
    host.watched(first)
    host.kill(first)
    host.until(lambda: f"{first}: recovery of web: web healthy again" in host.text())

    second = host.declare()
    host.up(second)
    host.watched(second)
    host.kill(second)
    host.until(lambda: f"{second}: recovery of web: web healthy again" in host.text())

    (host.folder / "environments" / f"{second}.yaml").unlink()
    host.until(lambda: f"{second} is no longer watched: its file is gone" in host.text())
    agent.send_signal(signal.SIGTERM)

    assert agent.wait(timeout=300) == 0
    with host.stores() as stores:
        recovered = {one.environment: one.success for one in stores.recoveries.find() if one.environment != away}
        assert recovered == {first: True, second: True}
        assert [one.resolved_at is not None for one in stores.errors.latest(first)] == [True], "one failure, one error"
    assert host.runs(first)
    assert "watch of broken failed" in host.text()


@pytest.mark.campaign
def test_an_environment_that_is_unwatched_is_left_to_others(host: LocalHost) -> None:
    watched, left = host.declare(), host.declare()
    host.up(watched)
    host.up(left)
    host.begin(ROAS_UNWATCHED=f"other,{left}")
    host.watched(watched)
    host.kill(left)
    host.kill(watched)
    host.until(lambda: f"{watched}: recovery of web: web healthy again" in host.text())

    assert not host.runs(left)
    assert left not in host.text()
    with host.stores() as stores:
        assert left not in stores.health.latest_judgements()
        assert stores.errors.latest(left) == []


@pytest.mark.campaign
def test_an_engine_that_hangs_delays_no_environment_of_another(host: LocalHost) -> None:
    # The path of a socket is short, and pytest's folders are not.
    with tempfile.TemporaryDirectory(prefix="roas-") as folder, socket.socket(socket.AF_UNIX) as silent:
        silent.bind(f"{folder}/s")
        # It takes connections, and answers none.
        silent.listen(500)
        hanging = [host.declare(engine=f"unix://{folder}/s") for _ in range(6)]
        name = host.declare()
        host.up(name)
        agent = host.begin()
        host.watched(name)
        for times in (1, 2):
            host.kill(name)
            host.until(lambda times=times: host.text().count(f"{name}: recovery of web: web healthy") == times)  # type: ignore[misc]
        assert not any(f"{one}: recovery of" in host.text() for one in hanging)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(timeout=300) == 0


def test_one_process_of_a_host_watches_an_environment(host: LocalHost) -> None:
    name = host.declare()
    host.up(name)
    first = host.begin()
    host.watched(name)
    host.begin()
    host.until(lambda: f"{name} is watched by the agent on " in host.text())
    seen = host.roas("doctor", name)
    assert f"Watched by the agent on {socket.gethostname()} since " in seen
    assert f"(process {first.pid})" in seen
    first.kill()
    first.wait()
    # The lock ends with its process, and the other agent goes on.
    host.watched(name, times=2)
    host.kill(name)
    host.until(lambda: host.runs(name))
    with host.stores() as stores:
        host.until(lambda: any(one.success for one in stores.recoveries.find(environment=name)))


@pytest.mark.campaign
def test_what_an_agent_that_was_killed_had_begun_is_finished_by_the_next(host: LocalHost) -> None:
    name = host.declare()
    host.up(name)
    agent = host.begin()
    host.watched(name)
    host.kill(name)
    # It has planned, and may have begun to act.
    host.until(lambda: "automatic repair (" in host.text())
    agent.kill()
    agent.wait()
    subprocess.run(["docker", "kill", f"{name}-web-1"], check=False, capture_output=True)

    host.begin()
    host.watched(name, times=2)
    host.until(lambda: host.runs(name))
    with host.stores() as stores:
        host.until(lambda: all(one.ended_at is not None for one in stores.recoveries.find(environment=name)))
        host.until(lambda: any(one.success for one in stores.recoveries.find(environment=name)))
