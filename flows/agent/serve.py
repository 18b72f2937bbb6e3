"""`roas serve`: the Prefect server, all deployments and their runner, in one process for one machine."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Self

import psutil

from adapters.config.environment_files import known_environments, no_environments
from adapters.host.systemd import report_ready
from adapters.server.credentials import ServerCredentials, remove_profile, server_credentials, write_profile
from flows.common.made_stores import make_stores
from flows.common.memory import keep_giving_back, spare_memory
from flows.common.terminal import echo
from flows.server.embedded import (
    HEARTBEAT_SECONDS,
    RUN_SETTINGS,
    ServerProcess,
    api_server,
    client_environment,
    listener_is_ours,
    listening_socket,
    wait_for_api,
)
from flows.server.shared_server import end_unused_server
from flows.warm.warm_keeper import RUN_COMMAND, WarmKeeper, keep_warm_process
from models.failures import BadInputError
from models.settings import Settings

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

_RUNS_END_WITHIN_SECONDS = 5
_ALL_ENDS_WITHIN_SECONDS = 7
"""From the signal on: then this process ends with all that it started, whatever still hangs."""
_LAST_END_WITHIN_SECONDS = 2

_RUNS_AT_ONCE = 4

_RUNNER_SETTINGS = {
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    # Without it the server cannot tell a run that is alive from one whose runner was killed.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": HEARTBEAT_SECONDS,
}


def serve_all(settings: Settings) -> None:
    """Serve until interrupted, and end this process: the UI on the server's port, all deployments, their runs.

    The agent beside it watches and monitors all environments in one process.

    Raises:
        BadInputError: There is no environment to serve.
    """
    names = known_environments(settings)
    if not names:
        raise no_environments(settings)
    try:
        listening = listening_socket(settings.server_port)
    except OSError as error:
        listener_is_ours(settings.server_port)
        raise BadInputError(
            f"The Prefect server cannot listen on port {settings.server_port}: {error.strerror};",
            advice="stop what holds it (perhaps another `roas serve`), or set ROAS_SERVER_PORT.",
        ) from error
    spare_memory()
    credentials = server_credentials(settings.prefect_home)
    end_unused_server(credentials.home)
    # Until the runner has its own handlers.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _end_at_once(credentials))
    for name, value in (RUN_SETTINGS | _RUNNER_SETTINGS).items():
        os.environ.setdefault(name, value)
    echo(f"Prefect server starting; its files and server.log are in {credentials.home}")
    with ExitStack() as stack:
        stack.enter_context(listening)
        server = stack.enter_context(api_server(credentials, listening, with_ui=True))
        # Set before the engine is imported: it reads them once.
        os.environ |= client_environment(credentials, server.url)
        make_stores(settings)
        # This process, the agent and the runs share the memory of what they import.
        warm = stack.enter_context(keep_warm_process(fork=True))
        wait_for_api(server=server.process)
        try:
            write_profile(credentials, server.url)
            _say_how_to_sign_in(credentials, server.url, names)
            _reconcile()
            if warm is not None:
                warm.wait()
            _serve_deployments(names, server, credentials, warm)
        finally:
            remove_profile(credentials)
    # A warm process ends by itself, a moment later.
    _wait_for_the_end_of(psutil.Process().children(), _LAST_END_WITHIN_SECONDS)
    # Everything has ended. The interpreter's own end takes seconds on a busy machine, and the thread that would end
    # this process by force no longer runs then.
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)


def _say_how_to_sign_in(credentials: ServerCredentials, url: str, names: tuple[str, ...]) -> None:
    """Name the file, never what it holds: this may go into a log that is kept."""
    echo(f"Prefect UI: {url.removesuffix('/api')}   environments: {', '.join(names)}   stop with Ctrl-C")
    echo(f"Page: {url.removesuffix('/api')}/roas/   sign in and open it: roas open")
    echo(f"Sign-in: the UI asks for the one line of {credentials.auth_file}   show it: cat {credentials.auth_file}")
    echo(f"prefect command line outside of the checkout: export PREFECT_PROFILES_PATH={credentials.profiles_file}")


def _reconcile() -> None:
    """What an earlier `roas serve` left when it was killed is ended before anything new begins."""
    from tasks.deployment.operations import mark_interrupted

    asyncio.run(mark_interrupted(None, datetime.now(UTC)))


def _serve_deployments(
    names: tuple[str, ...], server: ServerProcess, credentials: ServerCredentials, warm: WarmKeeper | None
) -> None:
    from prefect.exceptions import TerminationSignal
    from prefect.runner import Runner

    from flows.agent.kept_processes import keep_agent, keep_server
    from flows.agent.new_environments import serve_new_environments
    from flows.common.server_outages import keep_asking_the_server
    from flows.server.automations import declare_automations
    from flows.server.deployments import deployments_of, remove_gone_schedules

    class QuickEndRunner(Runner):
        """Ends its runs side by side and soon; Prefect's own waits up to 30 s for each, one after the other."""

        def handle_sigterm(self, *args: Any, **kwargs: Any) -> None:
            # Whatever hangs on the way out must not keep this process.
            threading.Thread(target=_end_by_force, args=(credentials,), daemon=True).start()
            super().handle_sigterm(*args, **kwargs)

        async def cancel_all(self) -> None:
            await asyncio.to_thread(_end_runs, server.process.pid, warm.processes if warm else set())

        async def __aenter__(self) -> Self:
            await super().__aenter__()
            _start_runs_warm(self)
            return self

    keep_asking_the_server()
    runner = QuickEndRunner(limit=_RUNS_AT_ONCE, pause_on_shutdown=False)
    served = [deployment for name in names for deployment in deployments_of(name)]

    async def run() -> None:
        async def add(deployment: RunnerDeployment) -> None:
            await remove_gone_schedules(deployment, await runner.aadd_deployment(deployment))

        for deployment in served:
            await add(deployment)
        await declare_automations()

        async def serve(name: str) -> None:
            """Serve an environment that became known or changed later; the agent finds that itself."""
            for deployment in await asyncio.to_thread(deployments_of, name):
                await add(deployment)

        beside = [
            asyncio.create_task(keep_server(server)),
            asyncio.create_task(keep_agent()),
            asyncio.create_task(keep_giving_back()),
            asyncio.create_task(serve_new_environments(set(names), serve)),
        ]
        report_ready()
        try:
            await runner.start()
        finally:
            for task in beside:
                task.cancel()

    # Prefect ends its runs on SIGTERM alone.
    signal.signal(signal.SIGINT, lambda *_: signal.raise_signal(signal.SIGTERM))
    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(run())


def _start_runs_warm(runner: Any) -> None:
    """Let a runner start its runs in the warm process; Prefect has no setting for a runner's command."""
    poller = runner._scheduled_run_poller
    resolve = poller._resolve_starter

    def with_command(flow_run: Any) -> Any:
        starter = resolve(flow_run)
        starter._command = shlex.join(RUN_COMMAND)
        return starter

    poller._resolve_starter = with_command


def _end_runs(server_process: int, warm_processes: set[int]) -> None:
    """Ask the processes of all runs to end, and kill what has not after a while; an operation cut off so is recorded
    as interrupted when the next one begins.
    """
    service_pids = {server_process, *warm_processes}
    runs = [process for process in psutil.Process().children() if process.pid not in service_pids]
    # A run in a warm process is a child of that, and the process started here its client. All are found at once,
    # because each search reads every process of the machine.
    with_children = [
        process for process in psutil.Process().children(recursive=True) if process.pid not in service_pids
    ]
    _ask_to_end(runs)
    _kill(with_children)


def _ask_to_end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _wait_for_the_end_of(processes, _RUNS_END_WITHIN_SECONDS)


def _wait_for_the_end_of(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(_is_alive, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)


def _is_alive(process: psutil.Process) -> bool:
    # Waiting for it would take its exit code from the runner, which does so itself.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _kill(processes: list[psutil.Process]) -> None:
    """Kill them, and return when they have ended: a busy machine takes a while to."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait_for_the_end_of(processes, _LAST_END_WITHIN_SECONDS)


def _end_at_once(credentials: ServerCredentials) -> NoReturn:
    """End this process in a signal's handler, before it runs anything.

    An exception out of a handler is not enough: the import of a module may lose it, and Pydantic turns it into another.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    _ask_to_end(psutil.Process().children())
    _end_with_all(credentials)


def _end_by_force(credentials: ServerCredentials) -> None:
    time.sleep(_ALL_ENDS_WITHIN_SECONDS)
    _end_with_all(credentials)


def _end_with_all(credentials: ServerCredentials) -> NoReturn:
    remove_profile(credentials)
    _kill(psutil.Process().children(recursive=True))
    os._exit(0)
