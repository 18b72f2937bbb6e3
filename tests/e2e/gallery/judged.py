"""Start a case with the real command, and compare the report of it with what a person says."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from adapters.stores import Stores
from models.errors import RecordedError, Strategy
from models.recovery import RecoveryExecution
from models.settings import Settings
from tests.e2e.gallery.case import GalleryCase
from tests.support.kept_images import forget_kept_images
from tests.support.ports import free_port
from tests.support.projects import remove_project
from tests.support.warm import warm_commands

ROAS = Path(sys.executable).with_name("roas")
_ENDS_WITHIN_SECONDS = 400
# They look again, and touch nothing.
_HARMLESS = frozenset({Strategy.NONE, Strategy.WAIT_AND_RETRY})
# A start acts on nothing itself, and says so of an action that the watch would try.
_OFFERED = re.compile(r"\b([a-z_]+) would be tried")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What a user was told of one case.

    `started`: the start succeeded, or who looks after the application found nothing wrong. `output` is what the command
    printed, `why` and `ticket` what those commands say, `pointed` the sentences in which the product itself names the
    cause, `logs` what the containers wrote. `taken_seconds` is how long the case took.
    """

    case: GalleryCase
    started: bool
    blamed: str | None
    output: str
    why: str
    ticket: str
    pointed: str
    logs: tuple[str, ...]
    errors: tuple[RecordedError, ...]
    executions: tuple[RecoveryExecution, ...]
    port: int
    taken_seconds: float

    @property
    def cause(self) -> str:
        """The category of the latest error, empty where there is none."""
        return str(self.errors[0].verdict.category) if self.errors else ""

    @property
    def done(self) -> tuple[Strategy, ...]:
        """Actions that were carried out."""
        return tuple(dict.fromkeys(one.strategy for one in self.executions if one.points))

    @property
    def offered(self) -> tuple[Strategy, ...]:
        """Actions that would be tried where recovery may act."""
        proposed = [one.strategy for one in self.executions if not one.points]
        return tuple(dict.fromkeys([*proposed, *map(Strategy, _OFFERED.findall(self.output))]))

    @property
    def verdict_right(self) -> bool:
        return self.started == (self.case.expect.start == "started")

    @property
    def blame_right(self) -> bool:
        return self.blamed in self.case.expect.blame

    @property
    def cause_right(self) -> bool:
        return bool(self.errors) and self.errors[0].verdict.category in self.case.expect.causes

    @property
    def shown_in(self) -> tuple[str, ...]:
        """The places that show the line a person would point at; `cause` is where the product points at it itself."""
        places = {"cause": self.pointed, "why": self.why, "output": self.output, "ticket": self.ticket}
        wanted = [_squeezed(line.replace("@PORT@", str(self.port))) for line in self.case.expect.line]
        return tuple(name for name, text in places.items() if any(line in _squeezed(text) for line in wanted))

    @property
    def harmful(self) -> tuple[Strategy, ...]:
        """Automatic actions that were carried out, and that a person would not have let happen."""
        return tuple(filter(self._harms, self.done))

    @property
    def harmful_if_tried(self) -> tuple[Strategy, ...]:
        """Automatic actions that would be tried, and that a person would not let happen."""
        return tuple(filter(self._harms, self.offered))

    def _harms(self, strategy: Strategy) -> bool:
        return strategy.automatic and strategy not in _HARMLESS and strategy not in self.case.expect.actions

    @property
    def false_alarm(self) -> bool:
        return self.case.is_healthy and bool(self.errors or not self.started)

    def complaints(self) -> list[str]:
        """Return all that differs from what a person says."""
        expect, found = self.case.expect, []
        if not self.verdict_right:
            found.append(f"verdict: expected {expect.start}, got {'started' if self.started else 'failed'}")
        if self.case.is_healthy:
            found += [f"false alarm: {one.verdict.category}: {one.text}" for one in self.errors]
        else:
            if not self.blame_right:
                found.append(f"blame: expected {' or '.join(expect.blame)}, got {self.blamed}")
            if not self.cause_right:
                reason = self.errors[0].verdict.reason if self.errors else "no error is recorded"
                found.append(f"cause: expected {' or '.join(expect.causes)}, got {self.cause}: {reason}")
            missing = [place for place in ("cause", "why", "output", "ticket") if place not in self.shown_in]
            if missing:
                found.append(
                    f"line: {' or '.join(expect.line)} is not in {', '.join(missing)}; it points at: {self.pointed}"
                )
        found += [f"harmful: {action}" for action in self.harmful]
        found += [f"harmful if it were tried: {action}" for action in self.harmful_if_tried]
        return found


def _squeezed(text: str) -> str:
    # Commands fold long lines for the screen.
    return "".join(text.split())


def judge(case: GalleryCase, folder: Path, variables: dict[str, str]) -> Judged:
    """Start one case in a new folder, and return the report to the user; nothing of it is left afterwards."""
    return _Run(case, folder, variables).judge()


@dataclass(slots=True)
class _Run:
    """One case in a folder of its own, with stores of its own."""

    case: GalleryCase
    folder: Path
    variables: dict[str, str]
    project: str = ""
    port: int = 0

    def judge(self) -> Judged:
        began = time.monotonic()
        self.project = f"gallery-{secrets.token_hex(4)}"
        self.port = free_port()
        self.folder.mkdir(parents=True)
        self._write()
        with ExitStack() as stack:
            stack.callback(self._clean)
            if self.case.holds_port:
                stack.enter_context(_held(self.port))
            if self.case.then:
                code, said = self._roas("start", *self._name())
                assert code == 0, f"the first start of {self.case.name} failed:\n{said}"
                for words in self.case.then:
                    command = ["docker", *(word.replace("@PROJECT@", self.project) for word in words)]
                    subprocess.run(command, capture_output=True, text=True, check=not self.case.then_may_fail)
            code, said = self._roas(self.case.judged_by, *self._name())
            return self._judged(code, said, time.monotonic() - began)

    def _judged(self, code: int, said: str, seconds: float) -> Judged:
        case, name = self.case, self.project
        if case.is_healthy and code == 0:
            # A noisy application must not alarm those who look after it either.
            _, more = self._roas("collect", *self._name())
            said += more
        with Stores.open(Settings(data_dir=self.folder / "stores")) as stores:
            errors = tuple(stores.errors.latest(name))
            executions = tuple(stores.recoveries.find(environment=name))
            bundles = stores.evidence.find(environment=name)
            listed = stores.tickets.find(environment=name)
        why_printed, explained, tickets = "", {}, ""
        if errors or code:
            _, why_printed = self._roas("why", name)
            tickets = "".join(self._roas("tickets", one.ticket_id)[1] for one in listed)
            status, text = self._roas("why", name, "--json", only_output=True)
            explained = json.loads(text) if not status else {}
        pointed = [str(explained.get("headline", "")), *explained.get("because", ())]
        if case.judged_by == "collect":
            pointed = [part for one in errors[:1] for part in (one.text, one.verdict.reason)]
        blamed = explained.get("service") if case.judged_by == "start" else errors[0].service if errors else None
        return Judged(
            case=case,
            started=code == 0 if case.judged_by == "start" else not errors,
            blamed=blamed,
            output=said,
            why=why_printed,
            ticket=tickets,
            pointed="; ".join(pointed),
            logs=tuple(
                dict.fromkeys(f"{log.service} | {line}" for one in bundles for log in one.logs for line in log.lines)
            ),
            errors=errors,
            executions=executions,
            port=self.port,
            taken_seconds=seconds,
        )

    def _name(self) -> Sequence[str]:
        if self.case.environment:
            return (self.project,)
        return ("-f", str(self.folder / "compose.yaml"), "-p", self.project)

    def _write(self) -> None:
        for name, content in self.case.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.replace("@PORT@", str(self.port)).encode())
            path.chmod(0o755 if name in self.case.executable else 0o644)
        document: dict[str, Any] = {"services": self.case.services}
        if self.case.volumes:
            document["volumes"] = self.case.volumes
        text = yaml.safe_dump(document, sort_keys=False, width=1000).replace("@PORT@", str(self.port))
        (self.folder / "compose.yaml").write_text(text)
        if self.case.environment:
            fields = {"name": self.project, "project": self.project, "compose_files": ["compose.yaml"]}
            (self.folder / f"{self.project}.yaml").write_text(yaml.safe_dump(fields | self.case.environment))

    def _roas(self, *words: str, only_output: bool = False) -> tuple[int, str]:
        """Run a command as a user does; return its exit code and all that it said."""
        own = {
            "ROAS_DATA_DIR": str(self.folder / "stores"),
            "ROAS_ENVIRONMENTS_DIR": str(self.folder),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [ROAS, *words],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            cwd=self.folder,
            env=self.variables | warm_commands() | own,
            timeout=_ENDS_WITHIN_SECONDS,
        )
        return done.returncode, done.stdout if only_output else done.stderr + done.stdout

    def _clean(self) -> None:
        remove_project(self.project)
        mine = ["--filter", f"label=com.docker.compose.project={self.project}"]
        kept = subprocess.run(["docker", "volume", "ls", "--quiet", *mine], capture_output=True, text=True, check=True)
        if volumes := kept.stdout.split():
            subprocess.run(["docker", "volume", "rm", *volumes], capture_output=True, check=False)
        forget_kept_images(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def _held(port: int) -> Iterator[None]:
    """Keep a port of all addresses in use, as another program of the host would."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("0.0.0.0", port))
        holder.listen()
        yield
