"""The Prefect worker of the agent: a process of its own, so that nothing that becomes of it touches the watching.

The first is a fork of the agent before its threads begin, and shares what it has imported. A later one starts anew.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.host.warm_client import end_with_parent
from flows.agent.isolation import Progress
from flows.common.server_outages import call_unsynced_workers_unhealthy, keep_asking_the_server
from flows.server.embedded import HEARTBEAT_SECONDS, RUN_SETTINGS
from flows.server.engine_settings import take_settings_over
from models.enrolment import pool_of
from models.failures import RoasError

log = logging.getLogger("roas")

_SPAWNED = "from flows.agent.prefect_worker import run_spawned; run_spawned()"
_WORKER_SETTINGS = {
    "PREFECT_WORKER_QUERY_SECONDS": "1",
    # Without it the server cannot tell a run that is alive from one whose worker was killed.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS,
}
_LOOKED_AFTER_SECONDS = 30.0
_ENDS_WITHIN_SECONDS = 4.0


class WorkerEndedError(RoasError):
    """The worker ended by itself."""


@dataclass(slots=True)
class PrefectWorker:
    """Takes flow runs from a work pool; each of them runs in a process of its own."""

    pool: str
    name: str
    with_health: bool = False
    """Whether it answers at /health of PREFECT_WORKER_WEBSERVER_HOST and _PORT whether it asks for work."""
    _first: int | None = field(default=None, init=False)

    def fork(self) -> None:
        """Start the first one from this process, which must have one thread still.

        Raises:
            RuntimeError: It has several, and a fork takes over one only.
        """
        if threading.active_count() != 1:
            raise RuntimeError("a process with several threads cannot fork")
        parent = os.getpid()
        process = os.fork()
        if process:
            self._first = process
            return
        code = 1
        try:
            _become_worker(parent, self._words())
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        except BaseException:  # noqa: BLE001 - nothing of the process that it was forked from may run here
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)

    async def carry(self, progress: Progress) -> None:
        """Keep a worker until this is cancelled. It asks again and again while its server is away.

        Raises:
            WorkerEndedError: It ended by itself.
        """
        process, self._first = self._first, None
        if process is None:
            process = self._spawn()
        server = os.environ.get("PREFECT_API_URL", "the Prefect server")
        log.info("taking flow runs from work pool %s of %s", self.pool, server)
        try:
            with _end_of(process) as ended:
                while not ended.is_set():
                    progress()
                    await _wait(ended, _LOOKED_AFTER_SECONDS)
            code, process = _reap(process), None
            raise WorkerEndedError(f"exit code {code};", advice="its last lines say why.")
        finally:
            if process is not None:
                await _end(process)

    def _spawn(self) -> int:
        words = [sys.executable, "-P", "-c", _SPAWNED, str(os.getpid()), *self._words()]
        return os.posix_spawn(sys.executable, words, os.environ)

    def _words(self) -> list[str]:
        words = ["--pool", self.pool, "--type", "process", "--name", self.name]
        return [*words, "--with-healthcheck"] if self.with_health else words


def run_spawned() -> None:
    """Run a worker in this process, with the agent's process id and the worker's words as arguments."""
    _become_worker(int(sys.argv[1]), sys.argv[2:])


def run_worker(words: Sequence[str]) -> None:
    """Run a worker in this process, which may have been imported with other variables.

    `words` are those of `prefect worker start`. It outlives a server that is away.
    """
    take_settings_over()
    keep_asking_the_server()
    call_unsynced_workers_unhealthy()
    from prefect.cli import app

    if pool_of(os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")[0]) in words:
        # Before the worker, whose event loop is its own.
        threading.Thread(target=_keep_deployed, args=(words,), daemon=True, name="deployments").start()
    sys.argv = ["prefect", "worker", "start", *words]
    app()


def _keep_deployed(words: Sequence[str]) -> None:
    from flows.agent.enrolled import keep_deployed

    asyncio.run(keep_deployed(words[words.index("--pool") + 1]))


def _become_worker(parent: int, words: list[str]) -> None:
    # Another agent has a worker of its own, and what this one took would be counted for dead.
    end_with_parent(parent)
    # The command of runs says `python`, and means the one that has this program.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    for name, value in (RUN_SETTINGS | _WORKER_SETTINGS).items():
        os.environ.setdefault(name, value)
    run_worker(words)


async def _end(process: int) -> None:
    with suppress(ProcessLookupError), _end_of(process) as ended:
        os.kill(process, signal.SIGTERM)
        await _wait(ended, _ENDS_WITHIN_SECONDS)
        if not ended.is_set():
            os.kill(process, signal.SIGKILL)
        await ended.wait()
        _reap(process)


def _reap(process: int) -> int:
    """The exit code of a child that has ended; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@contextmanager
def _end_of(process: int) -> Iterator[asyncio.Event]:
    """An event that is set when a child of this process has ended."""
    ended, loop = asyncio.Event(), asyncio.get_running_loop()
    descriptor = os.pidfd_open(process)
    loop.add_reader(descriptor, ended.set)
    try:
        yield ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def _wait(ended: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ended.wait()
