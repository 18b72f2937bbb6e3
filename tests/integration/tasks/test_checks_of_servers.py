"""Servers say themselves what is wrong with a changed configuration file, before they are restarted."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from core.deployment.configuration import ReadAnew
from models.compose import Application
from tasks.deployment.configuration import refused_configurations
from tasks.runtime.plain_tasks import without_task_runs
from tasks.runtime.project import Project
from tests.integration.adapters.conftest import ComposeProject, engine, make_project  # noqa: F401 - fixtures

pytestmark = [pytest.mark.engine]
BUILD = Path(__file__).parents[2] / "e2e" / "gallery" / "image" / "build.sh"
# As far as their checks need them: databases and broker do not run.
SERVERS = """\
services:
  cache: {image: 'roas/gallery:local', command: [redis-server, /conf/redis.conf], volumes: ['./conf:/conf']}
  broker:
    {image: 'roas/gallery:local', command: [sleep, '600'], volumes: ['./conf/mq.conf:/etc/rabbitmq/rabbitmq.conf']}
  db: {image: 'roas/gallery:local', command: [sleep, '600'], volumes: ['./conf/db.cnf:/etc/mysql/conf.d/db.cnf']}
"""
GOOD = {
    "redis.conf": "requirepass s3cret-of-the-cache\nsave 60 1\n",
    "db.cnf": "[mariadbd]\nmax_connections = 12\n",
    "mq.conf": "listeners.tcp.default = 5672\n",
}
BAD = {"redis.conf": "maxmemory 12xx\n", "db.cnf": "max_conections = 12\n", "mq.conf": "listners.tcp = 1\n"}


def write(project: ComposeProject, files: dict[str, str]) -> None:
    (project.folder / "conf").mkdir(exist_ok=True)
    for name, text in files.items():
        (project.folder / "conf" / name).write_text(text)


async def test_a_server_refuses_a_wrong_file_and_takes_a_right_one(make_project) -> None:  # noqa: F811
    subprocess.run([BUILD], check=True, capture_output=True)
    project: ComposeProject = make_project(SERVERS)
    write(project, GOOD)
    project.started()
    declared = project.compose().render()
    programs = {"db": "mariadb", "broker": "rabbitmq"}
    known = {name: replace(declared.services[name], program=program) for name, program in programs.items()}
    application: Application = replace(declared, services=declared.services | known)
    assert application.services["cache"].program == "redis"
    asked = dict.fromkeys(("cache", "db", "broker"), ReadAnew.RESTARTED)

    with without_task_runs():
        assert await refused_configurations(Project(project.environment), application, asked, "d-1") == {}
        states = project.engine.containers.inspect_project(project.name)
        assert {state.service: state.state for state in states} == dict.fromkeys(asked, "running")
        write(project, {name: text + BAD[name] for name, text in GOOD.items()})
        refused = await refused_configurations(Project(project.environment), application, asked, "d-1")

    assert refused["cache"] == ">>> 'maxmemory 12xx': argument must be a memory value"
    assert refused["db"].endswith("unknown variable 'max_conections=12'")
    assert refused["broker"] == "Conf file attempted to set unknown variable: listners.tcp"
    assert len(project.engine.containers.inspect_project(project.name)) == 3
