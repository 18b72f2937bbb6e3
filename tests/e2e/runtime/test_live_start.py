"""A start on a terminal is shown live, in the warm process as in a process of its own."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import tempfile
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from models.operations import OperationStatus
from tests.e2e.flows.conftest import Place, place, well
from tests.e2e.flows.test_terminal_escapes import SICK
from tests.e2e.runtime.conftest import WarmUser, eventually
from tests.e2e.runtime.test_warm_operations import ROAS, made_warm

pytestmark = [pytest.mark.engine]

__all__ = ["place"]

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
MOVES_UP = "\x1b[1A"
HIDES_CURSOR = "\x1b[?25l"
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*3[0-7]m")
AFTER_BASE = "{base: {condition: service_healthy}}"
EVERYWHERE = pytest.mark.parametrize(
    "variables", [pytest.param({}, id="warm"), pytest.param({"ROAS_WARM": "0"}, id="cold", marks=pytest.mark.campaign)]
)


@dataclass
class LiveTerminal:
    """A command on a terminal of its own, and all that it wrote there."""

    process: subprocess.Popen[bytes]
    leader: int
    written: bytearray = field(default_factory=bytearray)

    def read(self) -> None:
        try:
            while part := os.read(self.leader, 65536):
                self.written += part
        except OSError:
            # Linux reports the end of the other side so.
            pass

    @property
    def shown(self) -> str:
        return self.written.decode(errors="replace")

    @property
    def lines(self) -> list[str]:
        """Every line that was ever drawn, without escapes."""
        return re.split(r"\r+\n|\r|\n", ESCAPE.sub("", self.shown))

    def write(self, typed: bytes) -> None:
        os.write(self.leader, typed)


Started = Callable[..., LiveTerminal]


@pytest.fixture(scope="module")
def user_of_all() -> Iterator[WarmUser]:
    """No test here ends the warm process, so all use one."""
    made = WarmUser(Path(tempfile.mkdtemp(prefix="roas-")))
    yield made
    made.end()


@pytest.fixture
def warm_user(user_of_all: WarmUser, place: Place, prefect_server: None) -> WarmUser:
    return made_warm(user_of_all, place)


@pytest.fixture
def on_terminal(warm_user: WarmUser, place: Place) -> Started:
    def start(*words: str, columns: int = 100, variables: dict[str, str] | None = None) -> LiveTerminal:
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        chosen = {"TERM": "xterm-256color"} | (variables or {})
        environment = {name: value for name, value in warm_user.environment(**chosen).items() if name != "COLUMNS"}
        process = subprocess.Popen(
            ["env", "--default-signal=INT", *ROAS, *words], env=environment, cwd=place.folder, start_new_session=True,
            stdin=follower, stdout=follower, stderr=follower, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(follower)
        made = LiveTerminal(process, leader)
        reader = threading.Thread(target=made.read)
        reader.start()
        started.append((made, reader))
        return made

    started: list[tuple[LiveTerminal, threading.Thread]] = []
    yield start
    for made, reader in started:
        made.process.kill()
        made.process.wait()
        reader.join(10)
        os.close(made.leader)


def ended(terminal: LiveTerminal) -> int:
    code = terminal.process.wait(120)
    eventually(lambda: "next: " in terminal.shown or code != 0, "all is read")
    return code


@pytest.mark.parametrize(
    ("columns", "variables"),
    [pytest.param(40, {}, id="warm"), pytest.param(100, {"ROAS_WARM": "0"}, id="cold", marks=pytest.mark.campaign)],
)
def test_start_is_shown_live_and_its_last_state_stays(
    on_terminal: Started, place: Place, columns: int, variables: dict[str, str]
) -> None:
    place.declare(well("base") + well("web", depends_on=AFTER_BASE))
    terminal = on_terminal("start", "test", columns=columns, variables=variables)
    assert ended(terminal) == 0, terminal.shown

    first, live = terminal.lines[0], [line for line in terminal.lines if re.match(r"  (base|web) ", line)]
    assert first.endswith("loading Prefect")
    assert MOVES_UP in terminal.shown
    assert HIDES_CURSOR not in terminal.shown
    assert max(map(len, live)) <= columns
    assert any(re.match(r"  web  waiting +\d\.\d s  for base", line) for line in live), live
    assert any(re.match(r"  base started|  base healthy", line) for line in live), live
    # What was drawn last is the record above the summary.
    last = terminal.lines[: next(n for n, line in enumerate(terminal.lines) if line.startswith("start of test"))]
    record = [line for line in last if line.strip()][-4:]
    assert record[0].startswith("test: 2 of 2 services proven, ")
    assert [line.split()[:2] for line in record[1:3]] == [["base", "healthy"], ["web", "healthy"]]
    assert re.match(r"  critical path: base \d\.\d s > web \d\.\d s", record[3])


@pytest.mark.campaign
def test_failure_is_printed_above_the_display_and_controls_of_a_container_are_made_visible(
    on_terminal: Started, place: Place
) -> None:
    place.declare(well("base") + SICK, start_timeout_seconds=20)
    terminal = on_terminal("start", "test")
    assert ended(terminal) == 1, terminal.shown

    failed = next(n for n, line in enumerate(terminal.lines) if "sick failed after" in line)
    assert any(line.startswith("test: ") for line in terminal.lines[failed:])
    assert "\x1b]52" not in terminal.shown
    assert r"\x1b]52;c;" in terminal.shown


@EVERYWHERE
def test_ctrl_c_ends_a_start_that_is_shown_live(on_terminal: Started, place: Place, variables: dict[str, str]) -> None:
    place.declare(well("base") + well("never", depends_on=AFTER_BASE).replace("/tmp/well]", "/tmp/never]"))
    terminal = on_terminal("start", "test", variables=variables)
    eventually(lambda: any(re.match("  never +started", line) for line in terminal.lines), "it is shown")
    terminal.write(b"\x03")
    assert terminal.process.wait(120) in (130, -signal.SIGINT), terminal.shown
    (last, *_) = place.stores().operations.history(environment="test", limit=1)
    assert last.status is OperationStatus.FAILED
    assert place.containers() == []


@pytest.mark.campaign
def test_display_has_no_colour_with_no_color_and_there_is_none_on_a_dumb_terminal(
    on_terminal: Started, place: Place
) -> None:
    place.declare(well("base"))
    plain = on_terminal("start", "test", variables={"NO_COLOR": "1"})
    assert ended(plain) == 0
    assert MOVES_UP in plain.shown
    assert not COLOUR.search(plain.shown)
    dumb = on_terminal("start", "test", variables={"TERM": "dumb"})
    assert ended(dumb) == 0
    assert MOVES_UP not in dumb.shown
    assert any(line.endswith("base kept: its own health check passes") for line in dumb.lines), dumb.shown


def test_quiet_start_prints_only_its_result(on_terminal: Started, place: Place) -> None:
    place.declare(well("base"))
    terminal = on_terminal("start", "--quiet", "test")
    assert terminal.process.wait(120) == 0
    eventually(lambda: "success" in terminal.shown, "all is read")
    assert re.fullmatch(r"start of test: success after \d+\.\d s", "\n".join(terminal.lines).strip())


@pytest.mark.campaign
def test_timing_names_every_phase_and_adds_up(warm_user: WarmUser, place: Place) -> None:
    place.declare(well("base"))
    done = warm_user.run("start", "--timing", "--json", "test", command=ROAS, cwd=place.folder)
    assert done.returncode == 0, done.stderr
    timing = json.loads(done.stdout)["timing"]
    phases = timing["phases_seconds"]
    assert [*phases] == ["entry", "server", "validation", "plan", "fetch", "create", "services", "proof", "record"]
    assert min(phases.values()) >= 0
    assert sum(phases.values()) == pytest.approx(timing["sum_seconds"], abs=0.01)
    assert timing["sum_seconds"] + timing["unaccounted_seconds"] == pytest.approx(timing["wall_seconds"], abs=0.01)

    done = warm_user.run("start", "--timing", "test", command=ROAS, cwd=place.folder, variables={"ROAS_WARM": "0"})
    lines = [line.split()[0] for line in done.stdout.partition("\ntiming\n")[2].splitlines()]
    assert lines == [*phases, "sum", "unaccounted", "wall"]
