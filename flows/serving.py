"""`roas serve`: the Prefect server, all deployments and their runner, in one process for one machine."""

from __future__ import annotations

import os
import threading

import click

from adapters.environment_files import environment_names
from adapters.host import port_is_free
from flows.embedded import LOG_TO_UI, server_environment, wait_for_api
from models.failures import BadInputError
from models.settings import Settings


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
    os.environ.setdefault(*LOG_TO_UI)
    os.environ["PREFECT_UI_API_URL"] = url
    os.environ.setdefault("PREFECT_RUNNER_POLL_FREQUENCY", "1")
    click.echo(f"Prefect server starting, its files in {home}")
    server = threading.Thread(target=_serve_api, args=(settings.server_port,), name="prefect-api", daemon=True)
    server.start()
    wait_for_api()
    click.echo(f"Prefect UI: {url.removesuffix('/api')}   environments: {', '.join(names)}   stop with Ctrl-C")
    _reconcile()
    _serve_deployments(names)


def _reconcile() -> None:
    """What an earlier `roas serve` left when it was killed is ended before anything new begins."""
    import asyncio
    from datetime import UTC, datetime

    from tasks.reconciling import mark_interrupted

    asyncio.run(mark_interrupted.fn(None, datetime.now(UTC)))


def _serve_api(port: int) -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    uvicorn.Server(uvicorn.Config(create_app, factory=True, host="127.0.0.1", port=port, log_level="error")).run()


def _serve_deployments(names: tuple[str, ...]) -> None:
    from prefect import serve

    from flows.deployments import deployments_of

    served = [deployment for name in names for deployment in deployments_of(name)]
    # A watch of each environment runs all the time, beside what else is to run.
    serve(*served, limit=4 + len(names), pause_on_shutdown=False, print_starting_message=False)
