"""`roas serve`: the Prefect server, all deployments and their runner, in one process for one machine."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from adapters.environment_files import environment_names
from adapters.host import port_is_free
from flows.embedded import RUN_SETTINGS, server_environment, wait_for_api
from flows.terminal import echo
from models.failures import BadInputError
from models.settings import Settings

_RUNNER_SETTINGS = {
    "PREFECT_RUNNER_POLL_FREQUENCY": "1",
    # Without it the server cannot tell a run that is alive from one whose runner was killed.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}


def serve_all(settings: Settings) -> None:
    """Serve until interrupted: the UI on the server's port, every environment's deployments, their runs.

    Raises:
        BadInputError: There is no environment to serve.
    """
    names = environment_names(settings.environments_dir)
    if not names:
        raise BadInputError(
            f"There is no environment in {settings.environments_dir};",
            advice="put a NAME.yaml there, or set ROAS_ENVIRONMENTS_DIR.",
        )
    if not port_is_free("127.0.0.1", settings.server_port):
        raise BadInputError(
            f"Port {settings.server_port} is in use, so the Prefect server cannot have it;",
            advice="stop what holds it (perhaps another `roas serve`), or set ROAS_SERVER_PORT.",
        )
    home = settings.data_dir / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    url = f"http://127.0.0.1:{settings.server_port}/api"
    # Set before the engine is imported: it reads them once.
    os.environ.update(server_environment(home))
    os.environ["PREFECT_API_URL"] = url
    os.environ["PREFECT_UI_API_URL"] = url
    for name, value in (RUN_SETTINGS | _RUNNER_SETTINGS).items():
        os.environ.setdefault(name, value)
    echo(f"Prefect server starting; its files and server.log are in {home}")
    server = threading.Thread(target=_serve_api, args=(settings.server_port, home), name="prefect-api", daemon=True)
    server.start()
    wait_for_api()
    echo(f"Prefect UI: {url.removesuffix('/api')}   environments: {', '.join(names)}   stop with Ctrl-C")
    _reconcile()
    _serve_deployments(names)


def _reconcile() -> None:
    """What an earlier `roas serve` left when it was killed is ended before anything new begins."""
    from tasks.reconciling import mark_interrupted

    asyncio.run(mark_interrupted.fn(None, datetime.now(UTC)))


def _serve_api(port: int, home: Path) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    # Where many write at once its SQLite is locked for a moment; the server says so at length, and clients try again.
    log = logging.getLogger("prefect.server")
    log.addHandler(logging.FileHandler(home / "server.log", delay=True))
    log.propagate = False
    uvicorn.Server(uvicorn.Config(create_app, factory=True, host="127.0.0.1", port=port, log_level="error")).run()


def _serve_deployments(names: tuple[str, ...]) -> None:
    from prefect import get_client
    from prefect.exceptions import TerminationSignal
    from prefect.runner import Runner

    from flows.automations import declare_automations
    from flows.deployments import deployments_of
    from flows.server_outages import keep_asking_the_server
    from flows.standing import STANDING

    keep_asking_the_server()
    # A watch and the monitoring of each environment run all the time, beside what else is to run.
    runner = Runner(limit=4 + len(STANDING) * len(names), pause_on_shutdown=False)
    served = [deployment for name in names for deployment in deployments_of(name)]

    async def run() -> None:
        ids = {(one.flow_name, one.name): await runner.aadd_deployment(one) for one in served}
        await declare_automations()
        async with get_client() as client:
            for name in names:
                # Their schedules only begin again what has died, and first come minutes from now.
                for flow in STANDING:
                    await client.create_flow_run_from_deployment(ids[flow, name])
        await runner.start()

    with suppress(KeyboardInterrupt, TerminationSignal):
        asyncio.run(run())
