"""Flow runs of `roas serve` and of a worker begin in a warm process of their own, and end with what started them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.runtime.conftest import WarmUser, eventually, is_gone
from tests.support.ports import free_port
from tests.support.prefect_server import ask

_SERVE = [sys.executable, "-P", "-c", "from cli.entry import main; main()", "serve"]
_FORKED_FROM = "cli.entry import main"
_WITHIN_SECONDS = 300


class Serving:
    """`roas serve` of an application without containers."""

    def __init__(self, user: WarmUser, folder: Path) -> None:
        self.port, self.folder = free_port(), folder
        (folder / "app").mkdir()
        (folder / "app" / "compose.yaml").write_text("services:\n  web:\n    image: roas-test/never-built:1\n")
        (folder / "test.yaml").write_text("name: test\nproject: roas-test-runs\ncompose_files: [app/compose.yaml]\n")
        places = {"ROAS_SERVER_PORT": str(self.port), "ROAS_ENVIRONMENTS_DIR": str(folder)}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                _SERVE, cwd=folder, env=user.environment(**places), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        auth = (self.folder / "data" / "prefect" / "auth_string").read_text().strip()
        return ask(f"http://127.0.0.1:{self.port}/api", auth, path, question)

    def started(self, word: str) -> list[psutil.Process]:
        """The processes that it started and that have a word in their command line."""
        found = []
        for one in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if word in " ".join(one.cmdline()):
                    found.append(one)
        return found

    def warm_process(self) -> psutil.Process | None:
        """The first is a fork of the service, whose command line it has; a later one has its own."""
        found = self.started("warm_process") or self.started(_FORKED_FROM)
        return found[0] if found else None

    def warm_runs(self) -> list[psutil.Process]:
        """Flow runs that were forked, and the agent."""
        warm = self.warm_process()
        return warm.children() if warm else []

    def wait(self) -> None:
        def served() -> bool:
            assert self.process.poll() is None, self.log()
            return "watching test\n" in self.log()

        eventually(served, "the agent watches", within=_WITHIN_SECONDS)

    def run(self, name: str) -> dict[str, Any]:
        """Run a deployment to its end."""
        deployment = self.ask(f"deployments/name/{name}")
        run = self.ask(f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})

        def ended() -> dict[str, Any] | None:
            now: dict[str, Any] = self.ask(f"flow_runs/{run['id']}")
            return now if now["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED") else None

        return dict(eventually(ended, f"{name} ends", within=_WITHIN_SECONDS))

    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def _served(user: WarmUser, folder: Path) -> Iterator[Serving]:
    serving = Serving(user, folder)
    try:
        serving.wait()
        yield serving
    finally:
        serving.process.kill()
        serving.process.wait()


@pytest.mark.campaign
def test_runs_of_serve_are_forked_and_end_with_it(user: WarmUser, tmp_path: Path) -> None:
    with _served(user, tmp_path) as serving:
        eventually(lambda: list((user.runtime / "roas").glob("runs-*.sock")), "the warm process listens")
        ended = serving.run("health-check/test")
        assert ended["state_type"] == "COMPLETED", serving.log()
        warm = serving.warm_process()
        assert warm is not None
        forked = serving.warm_runs()
        assert forked
        assert "Traceback" not in serving.log()
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(timeout=300)
        eventually(lambda: is_gone(warm.pid), "the warm process ends")
        assert all(is_gone(one.pid) for one in forked)
        assert not list((user.runtime / "roas").glob("runs-*"))


def test_a_killed_server_of_serve_is_started_anew_and_nobody_else_gets_its_port(user: WarmUser, tmp_path: Path) -> None:
    with _served(user, tmp_path) as serving:
        (killed,) = serving.started("server_process")
        assert int(Path(f"/proc/{killed.pid}/oom_score_adj").read_text()) >= 300
        killed.kill()
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with pytest.raises(OSError, match="in use"):
                stranger.bind(("127.0.0.1", serving.port))
        eventually(
            lambda: "the Prefect server was killed by SIGKILL; it is started anew" in serving.log(), "it is said"
        )
        eventually(lambda: [one for one in serving.started("server_process") if one.pid != killed.pid], "it is started")

        assert serving.run("health-check/test")["state_type"] == "COMPLETED", serving.log()
        serving.process.send_signal(signal.SIGTERM)
        assert serving.process.wait(timeout=300) == 0


@pytest.mark.campaign
def test_killed_run_is_recorded_as_crashed(user: WarmUser, tmp_path: Path) -> None:
    with _served(user, tmp_path) as serving:
        eventually(lambda: list((user.runtime / "roas").glob("runs-*.sock")), "the warm process listens")
        run = eventually(lambda: _killed_run(serving), "a run is killed before it has ended")
        eventually(lambda: serving.ask(f"flow_runs/{run}")["state_type"] == "CRASHED", "it is recorded")
        assert serving.run("health-check/test")["state_type"] == "COMPLETED", serving.log()


def _killed_run(serving: Serving) -> str | None:
    """Start a run, and kill its process while it runs; None if it was faster."""
    before = {one.pid for one in serving.warm_runs()}
    deployment = serving.ask("deployments/name/health-check/test")
    run = serving.ask(f"deployments/{deployment['id']}/create_flow_run", {"state": {"type": "SCHEDULED"}})
    state = eventually(lambda: _begun(serving, run["id"]), "it begins")
    killed = [one for one in serving.warm_runs() if one.pid not in before]
    for one in killed:
        one.kill()
    return str(run["id"]) if state == "RUNNING" and killed else None


def _begun(serving: Serving, run: str) -> str | None:
    state = str(serving.ask(f"flow_runs/{run}")["state_type"])
    return state if state not in ("SCHEDULED", "PENDING") else None


@pytest.mark.campaign
def test_runs_begin_cold_until_a_killed_warm_process_is_replaced(user: WarmUser, tmp_path: Path) -> None:
    with _served(user, tmp_path) as serving:
        eventually(lambda: list((user.runtime / "roas").glob("runs-*.sock")), "the warm process listens")
        first = serving.warm_process()
        assert first is not None
        first.kill()
        assert serving.run("health-check/test")["state_type"] == "COMPLETED", serving.log()
        second = eventually(lambda: serving.warm_process(), "another one is started")
        assert second.pid != first.pid


@pytest.mark.parametrize("switch", ["", "0"], ids=["warm", "cold"])
@pytest.mark.campaign
def test_nothing_is_left_of_a_killed_serve(user: WarmUser, tmp_path: Path, switch: str) -> None:
    user.variables = {"ROAS_WARM": switch}
    with _served(user, tmp_path) as serving:
        if not switch:
            eventually(serving.warm_runs, "its agent is forked")
        all_of_it = psutil.Process(serving.process.pid).children(recursive=True)
        assert serving.started("agent_process")
        serving.process.kill()
        serving.process.wait()
        eventually(lambda: all(is_gone(one.pid) for one in all_of_it), "everything that it started ends", within=300)


@pytest.mark.campaign
def test_serve_starts_no_warm_process_where_it_is_switched_off(user: WarmUser, tmp_path: Path) -> None:
    user.variables = {"ROAS_WARM": "0"}
    with _served(user, tmp_path) as serving:
        assert serving.warm_process() is None
        assert not list(user.runtime.iterdir())
