"""`roas serve` as a person starts it, with an application on the real engine, and a browser that looks at its UI."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from models.settings import Settings
from tasks.monitoring.watch_lock import watcher_of
from tests.support.browser import chromium
from tests.support.ports import free_port
from tests.support.prefect_server import ask

T = TypeVar("T")

TIMEOUT_SECONDS = 300
"""A run's process takes four seconds to begin on an idle machine, and half a minute on one that does much else."""

_TAKEN_WITHIN_SECONDS = 15
_STEP_PARTS = (".state-list-item__name", ".state-badge")


def eventually(ask: Callable[[], T], what: str) -> T:
    """Ask until the answer is one, and give it."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.3)
    return answer


@dataclass(frozen=True, slots=True)
class Served:
    """A Prefect server and the runner beside it."""

    url: str
    log: Path
    auth_file: Path

    @property
    def auth_string(self) -> str:
        """What the UI asks for."""
        return self.auth_file.read_text()

    def ask(self, path: str, question: dict[str, Any] | None = None) -> Any:
        """What its API answers: to a question, or about one thing."""
        return ask(f"{self.url}/api", self.auth_string, path, question)

    def run(self, run_id: str) -> dict[str, Any]:
        """A run as the server knows it."""
        return dict(self.ask(f"flow_runs/{run_id}"))

    def wait_until(self, run_id: str, name: str, *, besides: str = "") -> str:
        """Wait until a run is in a state of this name, and not the one of that id; the id of the state."""

        def reached() -> str | None:
            state = self.run(run_id)["state"]
            return str(state["id"]) if state["name"] == name and state["id"] != besides else None

        return str(eventually(reached, f"{name} of run {run_id}"))

    def begun(self, run_id: str) -> list[str]:
        """The names of all task runs of a run, one for each time that one began."""
        found = self.ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run_id]}}})
        return [str(one["name"]) for one in found for _ in range(one["run_count"])]

    def watches(self) -> bool:
        """Whether the agent has begun to watch."""
        return "watching " in self.log.read_text(errors="replace")

    def end_watch(self) -> None:
        """Let the agent stand still from now on; ended it would be begun again."""
        found = re.search(r"\(process (\d+)\)", watcher_of("shop") or "")
        assert found is not None, "no process watches"
        os.kill(int(found[1]), signal.SIGSTOP)


@contextmanager
def served(folder: Path) -> Iterator[Served]:
    """Serve the environments of a folder until the end of the block."""
    port, log = free_port(), folder / "serve.log"
    with log.open("wb") as said:
        serving = subprocess.Popen(
            [Path(sys.executable).with_name("roas"), "serve"],
            env=os.environ | {"ROAS_SERVER_PORT": str(port)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
    try:
        made = Served(f"http://127.0.0.1:{port}", log, Settings().prefect_home / "auth_string")

        def begun() -> bool:
            assert serving.poll() is None, "it ended at once"
            # Its watch is the last thing that it begins.
            return _answers(made) and made.watches()

        eventually(begun, "the watch")
        yield made
    finally:
        print(log.read_text(errors="replace"))
        serving.terminate()
        with suppress(subprocess.TimeoutExpired):
            serving.wait(60)
        with suppress(ProcessLookupError):
            os.killpg(serving.pid, signal.SIGKILL)
        serving.wait()


def _answers(made: Served) -> bool:
    try:
        return bool(made.ask("ready"))
    except (OSError, httpx.HTTPError):
        # The file with the password is made by its first start.
        return False


@contextmanager
def browser() -> Iterator[Page]:
    """A page of Debian's Chromium, with a profile of its own."""
    with chromium() as running:
        page = running.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(TIMEOUT_SECONDS * 1000)
        expect.set_options(timeout=TIMEOUT_SECONDS * 1000)
        yield page


def sign_in(page: Page, served: Served) -> None:
    """Open the UI, which asks for the password, and give it; the browser keeps it from then on."""
    page.goto(served.url)
    page.locator("input[type=password]").fill(served.auth_string)
    page.get_by_role("button", name="Login").click()
    expect(page.get_by_role("button", name="Deployments")).to_be_visible()


@dataclass(frozen=True, slots=True)
class RunPage:
    """The page of one run in the UI."""

    page: Page
    served: Served
    run_id: str

    def open(self) -> None:
        """Go there."""
        self.page.goto(f"{self.served.url}/runs/flow-run/{self.run_id}")

    def shows(self, state: str) -> None:
        """Wait until the page says that the run is in a state."""
        expect(self.page.locator(".state-badge").first).to_have_text(state)

    def steps(self, number: int) -> list[tuple[str, str]]:
        """The steps of a recovery that the page lists, oldest first, once there are so many: name and state of each."""

        def listed() -> list[tuple[str, str]]:
            self.open()
            self.page.get_by_text("Task Runs", exact=True).first.click()
            rows = self.page.locator(".state-list-item:has(.state-list-item__name)")
            with suppress(PlaywrightTimeout):
                rows.first.wait_for(timeout=_TAKEN_WITHIN_SECONDS * 1000)
            # Rows come and move one after the other, so a reading counts where the next one is the same.
            first, shown = (self._read(rows, after=seconds) for seconds in (0, 1))
            steps = [(name, state) for name, state in shown if name.split()[0] in ("restart", "verify")]
            return steps[::-1] if first == shown and len(steps) >= number else []

        return eventually(listed, f"{number} steps")

    def _read(self, rows: Locator, *, after: float) -> list[list[str]]:
        self.page.wait_for_timeout(after * 1000)
        words = f"rows => rows.map(row => {[*_STEP_PARTS]}.map(part => row.querySelector(part).innerText))"
        return list(rows.evaluate_all(words))

    def answer(self, decision: str, note: str, by: str) -> str:
        """Press Resume, fill the form and submit it; the question that the form asked."""
        self.page.get_by_role("button", name="Resume").click()
        form = self.page.get_by_role("dialog")
        for label, words in (("Decision", decision), ("Note", note), ("Your name", by)):
            labelled = self.page.locator(".schema-form-property__label", has_text=label)
            form.locator(".schema-form-property").filter(has=labelled).locator("textarea").fill(words)
        question = form.inner_text()
        self._press("Submit")
        return question

    def retry(self) -> None:
        """Press Retry and say that it is meant."""
        self.page.get_by_role("button", name="Retry").click()
        self._press("Retry")

    def _press(self, name: str) -> None:
        """Press a dialog's button until the server has taken it: one whose SQLite is locked wants to be asked again."""
        dialog, before = self.page.get_by_role("dialog"), self.served.run(self.run_id)["state"]["id"]

        def taken() -> bool:
            dialog.get_by_role("button", name=name).click()
            with suppress(PlaywrightTimeout):
                dialog.wait_for(state="hidden", timeout=_TAKEN_WITHIN_SECONDS * 1000)
            return bool(self.served.run(self.run_id)["state"]["id"] != before)

        eventually(taken, f"what {name} leads to")
