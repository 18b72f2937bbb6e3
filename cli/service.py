"""`roas service`: `roas serve` or `roas worker` as a service of systemd."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from cli.options import as_json, pool_option
from cli.run_flow import show_answer
from flows.common.terminal import echo
from models.failures import BadInputError
from models.settings import current_settings

if TYPE_CHECKING:
    from adapters.host.systemd import Service

_PATHS = ("ROAS_CONFIG", "ROAS_ENVIRONMENTS_DIR", "ROAS_RECOVERY_DIR")
_OTHERS = ("ROAS_SERVER_PORT", "XDG_CONFIG_HOME")
_OF_A_WORKER = ("PREFECT_API_URL", "ROAS_STORES_URL", "ROAS_STORES_PASSWORD_FILE")

_of_worker = click.option(
    "--worker", "of_worker", is_flag=True, help="The service of `roas worker` instead of `roas serve`."
)


@click.group()
def service() -> None:
    """Run `roas serve` or `roas worker` as a service of systemd: of the machine for root, else of this user."""


@service.command()
@_of_worker
@pool_option("With --worker: take the flow runs of this work pool too.")
@click.option("--print", "print_wanted", is_flag=True, help="Print the unit; install nothing.")
def install(of_worker: bool, pool: str | None, print_wanted: bool) -> None:
    """Write the unit, enable it and start it: from then on watch, monitoring and schedules run.

    It serves the environments that are known now, and uses the data folder that this command uses. With --worker it
    watches and monitors, and takes flow runs from the server of PREFECT_API_URL where a pool is named; a worker that
    hangs is started anew.
    """
    from adapters.config.environment_files import known_environments, meant_environment, no_environments, remember_file
    from adapters.host import systemd

    if pool is not None and not of_worker:
        raise BadInputError("--pool is of a worker;", advice="give --worker with it.")
    settings = current_settings()
    unit = _unit(of_worker=of_worker, pool=pool or settings.work_pool)
    if print_wanted:
        echo(systemd.unit_text(unit).rstrip("\n"))
        return
    names = known_environments(settings)
    if not names:
        raise no_environments(settings)
    if (default_environment := meant_environment(settings)) is not None:
        remember_file(*default_environment, settings)
    _install(unit)
    echo(f"next: roas service status{' --worker' if of_worker else ''}   roas doctor")


def install_worker() -> None:
    """Install `roas worker` as a service of an enrolled host, and start it.

    Raises:
        RoasError: There is no systemd, or the service does not start.
    """
    _install(_unit(of_worker=True, pool=None))


def _install(unit: Service) -> None:
    from adapters.host import systemd

    file = systemd.install(unit)
    echo(f"{unit.unit} is active and enabled: {file}")
    if not unit.is_system and not systemd.lingers():
        echo("it ends when you log out; to keep it: sudo loginctl enable-linger $USER")


def _unit(*, of_worker: bool, pool: str | None) -> Service:
    from adapters.host import systemd

    return systemd.Service(
        program=systemd.installed_program(),
        data_dir=current_settings().data_dir.absolute(),
        working_folder=Path.cwd() if Path("deployments/environments").is_dir() else None,
        variables=_variables(of_worker=of_worker),
        is_system=os.geteuid() == 0,
        command=("worker", *(("--pool", pool) if pool else ())) if of_worker else ("serve",),
    )


@service.command()
@_of_worker
def remove(of_worker: bool) -> None:
    """Stop the service and remove its unit. Records and environments stay."""
    from adapters.host import systemd

    unit = systemd.WORKER_UNIT if of_worker else systemd.UNIT
    file = systemd.remove(is_system=os.geteuid() == 0, unit=unit)
    echo("no service is installed" if file is None else f"removed {file}")


@service.command()
@_of_worker
@as_json
def status(of_worker: bool, json_wanted: bool) -> None:
    """Show the state of the service. Exit code 1 if it is not active."""
    from adapters.host import systemd

    unit = systemd.WORKER_UNIT if of_worker else systemd.UNIT
    state = systemd.state(is_system=os.geteuid() == 0, unit=unit)
    since = f" since {state.since}, process {state.main_process}" if state.is_running else ""
    enabled = "; it starts with the machine" if state.enabled else ""
    show_answer(state, json_wanted, lambda unit_state: echo(f"{unit_state.unit}: {unit_state.active}{since}{enabled}"))
    if not state.is_running:
        sys.exit(1)


def _variables(*, of_worker: bool) -> dict[str, str]:
    """What decides where the service finds things; no variable that holds a password."""
    variables = {name: str(Path(os.environ[name]).absolute()) for name in _PATHS if os.environ.get(name)}
    variables |= {name: os.environ[name] for name in _OTHERS if os.environ.get(name)}
    if of_worker:
        variables |= {name: os.environ[name] for name in _OF_A_WORKER if os.environ.get(name)}
    engine = os.environ.get("DOCKER_HOST", "")
    if engine and urlsplit(engine).password is None:
        variables["DOCKER_HOST"] = engine
    return variables
