"""The simulated machine: an engine, the programs, the files of one environment, and processes of ours."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import random
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from adapters.docker.client import PROJECT_LABEL, SERVICE_LABEL
from adapters.host.machine import sample_host
from adapters.host.programs import ProgramResult, ProgramRun
from adapters.snapshots import files
from flows.deployment.rollback import rollback
from flows.recovery.error_recovery import error_recovery
from models.failures import RoasError
from models.notifications import Notification
from models.operations import Runner
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.store_access import _writer
from tasks.runtime.stores import stores_at
from tests.simulation import kernel, long_runs
from tests.simulation.actions import is_long
from tests.simulation.clock import Clock
from tests.simulation.compose import Compose
from tests.simulation.containers import Container, Version
from tests.simulation.engine import Engine
from tests.simulation.engine_client import SimulatedDockerEngine, beside
from tests.simulation.installed import install, new_loop, own
from tests.simulation.repository import Repository
from tests.simulation.snapshot_programs import SnapshotPrograms

NAME, OTHER = "shop", "other"
ADDRESS = "unix:///simulated.sock"
HOST = "simulated"


@dataclass(slots=True)
class Line:
    """A line of the timeline."""

    at: datetime
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.at:%m-%d %H:%M:%S.%f}"[:-3] + f"  {self.who:10} {self.text}"


CHECK: dict[str, Any] = {"test": ["CMD", "check"], "interval": "5s", "timeout": "3s", "retries": 3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a service of the application is like; `check` is its health check, None where it has none."""

    name: str
    needs: tuple[str, ...] = ()
    check: dict[str, Any] | None = field(default_factory=lambda: CHECK)
    restart: str = "no"
    has_data: bool = False


SHOP = (
    Shape(name="db", has_data=True, restart="unless-stopped", check=CHECK | {"start_period": "60s"}),
    Shape(name="web", needs=("db",)),
    Shape(name="jobs", needs=("db",), check=None, restart="unless-stopped"),
)


@dataclass(eq=False)
class Run:
    """A process of ours with what it does: its result or error, where it was not killed."""

    process: kernel.Process
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    result: Any = None
    error: BaseException | None = None
    task: asyncio.Task[Any] | None = None


class World:
    """All that is outside of the product, and the processes of the product that run in it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed, self.folder = seed, folder
        self.clock, self.choices = Clock(), random.Random(seed)
        self.engine = Engine(self.clock, random.Random(self.choices.getrandbits(64)))
        self.engine.on_event = lambda container, action: self.note("engine", f"{container.name} {action}")
        self.compose = Compose(self.engine)
        self.shapes: tuple[Shape, ...] = SHOP
        self.declared: dict[str, Any] = {}
        """What the environment's file has beside the rest."""
        self.repository = Repository(self.clock, random.Random(f"repository {seed}"))
        self.snapshot_programs = SnapshotPrograms(
            self.engine, self.repository, random.Random(f"snapshot programs {seed}")
        )
        self.collect_every = self.choices.choice((600, 1800, 3600))
        self.maintenance: list[dict[str, Any]] = []
        """What the environment's file says of it."""
        self.has_other_hosts = False
        self.on_message: Callable[[Notification], None] = lambda _: None
        """Called with each message that people get."""
        self.processes: dict[int, kernel.Process] = {}
        self.timeline: list[Line] = []
        self._pid = 1000
        self.loop = new_loop(self.clock)
        self._add_others()
        variables = {name: os.environ[name] for name in ("PATH", "HOME", "PREFECT_PROFILES_PATH") if name in os.environ}
        os.environ.clear()
        os.environ |= variables | {
            "ROAS_DATA_DIR": str(folder / "data"),
            "ROAS_ENVIRONMENTS_DIR": str(folder / "environments"),
        }
        self.of_long_runs: dict[str, Any] = {}
        if is_long(seed):
            os.environ |= long_runs.VARIABLES
            self.of_long_runs = long_runs.STAND_INS
            long_runs.write_plain_archives()
        install(self.clock, random.Random(self.choices.getrandbits(64)), self._stand_ins())
        # It has this function under another name.
        files.read_stream = self.snapshot_programs.read

    def _stand_ins(self) -> dict[str, Any]:
        """What stands for functions of the product's edge."""
        host = sample_host(self.folder, self.clock.now())

        return {
            "adapters.host.programs.run_to_end": self._run_program,
            "adapters.snapshots.streams.run": self.snapshot_programs.run,
            "adapters.snapshots.streams.read": self.snapshot_programs.read,
            "adapters.snapshots.streams.stream": self.snapshot_programs.stream,
            "adapters.snapshots.streams.inspected_stream": self.snapshot_programs.inspected_stream,
            "adapters.compose.program.compose_program": lambda _: ["docker", "compose"],
            "adapters.host.processes.this_process": self._this_process,
            "adapters.host.processes.is_alive": self._is_alive,
            "adapters.host.processes.kill_marked": lambda _: 0,
            "tasks.recovery.notify._send": self._send,
            "tasks.runtime.hosts.has_other_hosts": lambda: self.has_other_hosts,
            "adapters.host.machine.sample_host": lambda *_: replace(host, sampled_at=self.clock.now()),
            "adapters.docker.memory_signs._kernel_lines": lambda *_: (),
            "flows.recovery.error_recovery.error_recovery": plain(error_recovery),
            "tasks.recovery.own_process.roll_back_in_own_process": self._roll_back,
            "tasks.runtime.project._shared_engine": own(lambda address: SimulatedDockerEngine(address, self.engine)),
            "tasks.runtime.stores.stores_at": own(stores_at.__wrapped__),
            "tasks.runtime.store_access._writer": own(_writer.__wrapped__),
            **self.of_long_runs,
        }

    def _add_others(self) -> None:
        """Add a container of another project, of a service that is named as one of ours."""
        name = "registry.example/other:stable"
        self.engine.names[name] = Version(service="web", number=1000)
        labels = {PROJECT_LABEL: OTHER, SERVICE_LABEL: "web", "com.docker.compose.container-number": "1"}
        self.engine.start(self.engine.create(f"{OTHER}-web-1", {"Image": name, "Labels": labels}))

    # Files

    def write_files(self) -> None:
        """Write the environment's file and the Compose file as they are now."""
        environments = self.folder / "environments"
        environments.mkdir(parents=True, exist_ok=True)
        (environments / f"{NAME}.yaml").write_text(json.dumps(self._environment()))
        # It cannot be read, which must not disturb the other; it is the first, so the other is not measured at once.
        if not is_long(self.seed):
            (environments / "broken.yaml").write_text("name: other")
        (self.folder / "application").mkdir(exist_ok=True)
        (self.folder / "application" / "compose.yaml").write_text(
            json.dumps(document_of(NAME, self.shapes, reference_of))
        )

    def _environment(self) -> dict[str, Any]:
        return {
            "name": NAME,
            "compose_files": ["../application/compose.yaml"],
            "project": NAME,
            "engine": ADDRESS,
            "collect_every_seconds": self.collect_every,
            "start_timeout_seconds": 120,
            "notify": ["slack-webhook/operations"],
            "maintenance": self.maintenance,
            **self.declared,
        }

    def publish(self, version: Version) -> None:
        """Put a version of a service into the registry, under the name that the Compose file has."""
        self.note("registry", f"{reference_of(version.service)} is version {version.number}, which {version.outcome}")
        self.engine.registry[reference_of(version.service)] = version

    # Processes

    def begin(
        self, name: str, work: Callable[[], Coroutine[Any, Any, Any]], flow_run_id: str = "", *, run_count: int = 1
    ) -> Run:
        """Begin a process of ours that does this work, and ends with it; `flow_run_id` is that of its run, if any."""
        self._pid += 1
        process = self.processes[self._pid] = kernel.Process(self._pid, name)
        process.flow_run_id, process.run_count = flow_run_id, run_count
        run = Run(process)
        process.at_end.append(run.ended.set)

        async def do() -> None:
            try:
                run.result = await work()
            except BaseException as error:  # noqa: BLE001 - how it ended is what its caller asks for
                run.error = error
            finally:
                process.own.clear()
                kernel.end(process)

        run.task = kernel.run_in(process, do())
        return run

    def kill(self, process: kernel.Process) -> None:
        """Kill a process of ours."""
        if not process.is_dead:
            self.note("world", f"process {process.pid} ({process.name}) is killed")
            kernel.kill(process)

    def _this_process(self, flow_run_id: str = "") -> Runner:
        process = kernel.current.get()
        pid = process.pid if process is not None else 1
        return Runner(host=HOST, kernel="simulated", pid=pid, process_started=pid, flow_run_id=flow_run_id)

    def _is_alive(self, runner: Runner) -> bool | None:
        process = self.processes.get(runner.pid)
        return process is not None and not process.is_dead

    # Programs

    def _run_program(self, program: ProgramRun, stop: int | None = None) -> ProgramResult:
        words = list(program.words)
        if words[:2] != ["docker", "compose"]:
            raise FileNotFoundError(2, "No such file or directory", words[0])
        results: list[ProgramResult] = []
        beside(lambda: results.append(self.compose.run(program, words[2:])))
        return results[0]

    async def _roll_back(self, environment: str, release: str, asked_by: str) -> str:
        """As the product begins the command in a process of its own."""
        run = self.begin("rollback", lambda: plain(rollback)(environment, release=release, asked_by=asked_by))
        await run.ended.wait()
        if run.error is not None or run.result is None:
            raise RoasError(f"The rollback of {environment} to {release} failed: {run.error}", advice="")
        return f"rolled back to {release}"

    async def _send(self, _: str, notification: Notification) -> None:
        """Send a message: it arrives."""
        await asyncio.sleep(0.3)
        for news in notification.news:
            self.note("message", f"{news.occasion}: {news.service or news.environment}")
        self.on_message(notification)

    # What happened

    def note(self, who: str, text: str) -> None:
        """Write a line of the timeline."""
        # The folder has another name each time.
        self.timeline.append(Line(self.clock.now(), who, text.replace(str(self.folder), "")))

    def containers(self, service: str | None = None) -> list[Container]:
        """The containers of the environment, or of one service."""
        return self.engine.of_project(NAME, service)


def reference_of(service: str) -> str:
    """The name of a service's image."""
    return f"registry.example/{service}:stable"


def document_of(project: str, shapes: Sequence[Shape], image_of: Callable[[str], str]) -> dict[str, Any]:
    """The Compose file of an application, as Compose renders it."""
    services: dict[str, Any] = {}
    volumes = {f"{shape.name}-data": {"name": f"{project}_{shape.name}-data"} for shape in shapes if shape.has_data}
    for shape in shapes:
        body: dict[str, Any] = {
            "command": None,
            "entrypoint": None,
            "image": image_of(shape.name),
            "networks": {"default": None},
            "restart": shape.restart,
            "stop_grace_period": "5s",
        }
        if shape.needs:
            body["depends_on"] = {other: {"condition": "service_healthy", "required": True} for other in shape.needs}
        if shape.check is not None:
            body["healthcheck"] = shape.check
        if shape.has_data:
            body["volumes"] = [{"type": "volume", "source": f"{shape.name}-data", "target": "/data", "volume": {}}]
        services[shape.name] = body
    return {
        "name": project,
        "services": services,
        "networks": {"default": {"name": f"{project}_default", "ipam": {}}},
        "volumes": volumes,
    }


def plain(flow: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """A flow as a plain function, with its defaults, as it runs without a Prefect server."""
    defaults = {
        name: parameter.default.default if isinstance(parameter.default, FieldInfo) else parameter.default
        for name, parameter in inspect.signature(flow.fn).parameters.items()
    }

    async def call(*positional: Any, **named: Any) -> Any:
        with without_task_runs():
            return await flow.fn(**(defaults | dict(zip(defaults, positional, strict=False)) | named))

    return call


class Log(logging.Handler):
    """Our log as lines of the timeline."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def emit(self, record: logging.LogRecord) -> None:
        process = kernel.current.get()
        who = process.name if process is not None else "?"
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1]))
        self._world.note(who, f"{record.levelname.lower()}: {text}")
