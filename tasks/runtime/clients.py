"""Load an environment; what the tasks of a process share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from weakref import WeakSet

from prefect.context import FlowRunContext

from adapters.compose.known_applications import KnownApplications
from adapters.config import environments
from models.environments import Environment
from models.failures import BadInputError
from models.settings import current_settings
from tasks.runtime.retry_policy import make_async, retry_read

_MANY = 32
_OF_A_RUNNER = "PREFECT__FLOW_RUN_ID"
_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def open_clients_in_parallel() -> None:
    """Let the running event loop call many clients at once, each in a thread.

    By default a machine of two processors has six threads: inspecting a service then waits behind the
    starts of others, which wait for the engine.
    """
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops.add(loop)
        loop.set_default_executor(ThreadPoolExecutor(_MANY, thread_name_prefix="client"))


def known_applications() -> KnownApplications:
    """Applications that this process or another has rendered before."""
    return _known_applications(current_settings().data_dir.absolute())


def find_environment(name: str, compose_files: tuple[str, ...] = ()) -> Environment:
    """The environment of that name, or one made up for bare Compose files.

    Raises:
        BadInputError: A run of a deployment names Compose files that it may not name.
        EnvironmentFileError: There is no such file, or it is not a valid environment.
    """
    if compose_files:
        refuse_compose_files_of_deployments(compose_files)
        files = [Path(file) for file in compose_files]
        return environments.environment_for_compose_files(files, project=name, cwd=Path.cwd())
    return environments.declared_environment(name, current_settings())


load_environment = retry_read(make_async(find_environment))


def refuse_compose_files_of_deployments(compose_files: Sequence[str]) -> None:
    """Let the command line name any Compose file, and a run of a deployment only one below ROAS_COMPOSE_ROOTS.

    Else any user of the server could choose a file of the worker's machine that mounts `/`.

    Raises:
        BadInputError: A run of a deployment names another one.
    """
    if not compose_files or not _is_run_of_deployment():
        return
    roots = [Path(root).resolve() for root in current_settings().compose_roots.split(os.pathsep) if root]
    for file in compose_files:
        if not any(Path(file).resolve().is_relative_to(root) for root in roots):
            raise BadInputError(
                f"A run of a deployment may not name the Compose file {file};",
                advice="it takes an environment's name. Put the file below a folder of ROAS_COMPOSE_ROOTS, or use "
                "`roas` on the machine itself.",
            )


def _is_run_of_deployment() -> bool:
    # A runner or worker sets the variable for the process of each run; a subflow there has no deployment of its own.
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return _OF_A_RUNNER in os.environ or (run is not None and run.deployment_id is not None)


@lru_cache(maxsize=4)
def _known_applications(data_dir: Path) -> KnownApplications:
    return KnownApplications(data_dir)
