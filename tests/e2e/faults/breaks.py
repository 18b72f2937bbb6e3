"""Eight kinds of breaks on three applications of real programs: what is said, what to type, one message each.

A kind is on more than one application where its cause or the command that shows it differs there.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.e2e.faults.programs import DISK_MEGABYTES, IMAGE, PASSWORD, BrokenApp
from tests.e2e.flows.test_notifications import Webhook, save_block
from tests.support.docker_command import docker_command
from tests.support.prefect_server import server_variables
from tests.support.projects import remove_project
from tests.support.registry import Registry
from tests.support.small_disk import disk_of, fill

_COMMAND = re.compile(r"(?:^|: )((?:roas|docker|grep|ss|df|ls|chown) .+)$")
"""The command in a step: alone, or behind a description."""


@dataclass(frozen=True, slots=True)
class Break:
    """One break, what its person types then, and what must be said: the service, its category and the first line.

    `shows` is found in the first step and what its command prints: what to correct.
    """

    name: str
    how: Callable[[BrokenApp], AbstractContextManager[object] | None]
    types: str
    service: str | None
    category: str
    line: str
    shows: str


def _service(name: str, **changes: object) -> Callable[[BrokenApp], None]:
    """Edit keys of a service; a mapping is merged."""

    def edit(services: dict[str, Any]) -> None:
        for key, value in changes.items():
            old = services[name].get(key)
            services[name][key] = old | value if isinstance(old, dict) and isinstance(value, dict) else value

    return lambda application: application.change(edit)


def _image(name: str, typo: str) -> Callable[[BrokenApp], None]:
    return lambda application: _service(name, image=application.registry.image(typo), pull_policy="missing")(
        application
    )


def _mount(right: str, typo: str) -> Callable[[BrokenApp], None]:
    def edit(services: dict[str, Any]) -> None:
        services["web"]["volumes"] = [one.replace(right, typo) for one in services["web"]["volumes"]]

    return lambda application: application.change(edit)


def _publishes(application: BrokenApp, service: str, inner: int) -> None:
    _service(service, ports=[f"127.0.0.1:{application.taken}:{inner}"])(application)


@contextmanager
def _program_at(port: int) -> Iterator[None]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        yield


def _port_of_a_program(service: str, inner: int) -> Callable[[BrokenApp], AbstractContextManager[None]]:
    def how(application: BrokenApp) -> AbstractContextManager[None]:
        _publishes(application, service, inner)
        return _program_at(application.taken)

    return how


@contextmanager
def _port_of_a_container(application: BrokenApp) -> Iterator[None]:
    """While it was stopped, somebody else began to use its port."""
    assert application.run(f"roas stop {application.kind} --quiet").returncode == 0
    name = f"{application.project}-other"
    run = ["docker", "run", "--detach", "--init", "--name", name, "--publish", f"127.0.0.1:{application.port}:80"]
    subprocess.run([*run, IMAGE, "sleep", "600"], check=True, capture_output=True)
    try:
        yield
    finally:
        docker_command("rm", "--force", name)


def _owned_by_root(name: str, service: str | None = None) -> Callable[[BrokenApp], AbstractContextManager[None]]:
    @contextmanager
    def how(application: BrokenApp) -> Iterator[None]:
        subprocess.run(["chown", "-R", "root:root", application.folder / name], check=True)
        if service is not None:
            application.wait_until_failed(service)
        yield
        subprocess.run(["chown", "-R", "1000:1000", application.folder / name], check=True)

    return how


def _password_in_file(application: BrokenApp) -> None:
    (application.folder / ".env").write_text("DB_PASSWORD=another-one\n")


@contextmanager
def _password_in_database(application: BrokenApp) -> Iterator[None]:
    alter = "ALTER USER 'app'@'%' IDENTIFIED BY '{}'"
    application.inside("db", "mariadb", "-e", alter.format("another-one"))
    application.wait_until_failed("web")
    yield
    application.inside("db", "mariadb", "-e", alter.format(PASSWORD))


def _gone(name: str, service: str) -> Callable[[BrokenApp], None]:
    def how(application: BrokenApp) -> None:
        (application.folder / name).unlink()
        _service(service, labels={"edited": "yes"})(application)

    return how


def _report_eats_memory(application: BrokenApp) -> None:
    application.inside("web", "python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/report')")
    application.wait_until_failed("web")


def _disk_fills(service: str, *command: str) -> Callable[[BrokenApp], AbstractContextManager[None]]:
    """Fill the small disk; a command is the traffic that meets it."""

    @contextmanager
    def how(application: BrokenApp) -> Iterator[None]:
        ballast = fill(application.folder / "disk")
        for _ in range(6 if command else 0):
            application.inside(service, *command)
        application.wait_until_failed(service)
        yield
        ballast.unlink()

    return how


TRAFFIC = ("psql", "-h", "/tmp", "-U", "app", "shop", "-c", "create table if not exists t (); select pg_switch_wal()")
PYTHON = "(python|pytest)"
BREAKS = {
    "shop": (
        Break("host", _service("web", environment={"PGHOST": "bd"}), "roas start", "web", "dns_failure",
              '^web .*could not translate host name "bd"', "PGHOST: bd"),
        Break("folder", _owned_by_root("uploads", "web"), "roas collect", "web", "volume_mount",
              "^web.*Permission denied: '/srv/uploads", r" 0 +0 .*/uploads"),
        Break("password", _password_in_file, "roas start", "web", "auth_failed",
              "^web .*password authentication failed for user", r"\.env:1:DB_PASSWORD"),
        Break("file", _mount("./settings.json", "./setings.json"), "roas start", "web", "volume_mount",
              "/setings.json of web does not exist", r" settings\.json"),
        Break("disk", _disk_fills("db", *TRAFFIC), "roas collect", "db", "disk_full",
              "^db.*No space left on device", "100% .*/disk"),
    ),
    "notes": (
        Break("host", _service("web", environment={"DB_HOST": "localhost"}), "roas start", "web", "dependency_refused",
              "^web .*Can't connect to MySQL server on 'localhost'", "DB_HOST: localhost"),
        Break("port", _port_of_a_container, "roas start", "web", "port_conflict",
              r"Port \d+/tcp of web is taken by container .*-other", "-other"),
        Break("folder", _service("web", user="4321:4321"), "roas start", "web", "volume_mount",
              "^web .*Permission denied: '/srv/exports", r"4321[^:]*: ls(.|\n)* 1000 +1000 .*exports"),
        Break("password", _password_in_database, "roas collect", "web", "auth_failed",
              "^web.*Access denied for user", "compose.yaml:.*PASSWORD"),
        Break("file", _gone("web.env", "web"), "roas start", None, "missing_env_secret",
              r"env file \S+/web\.env not found", r" compose\.yaml"),
        Break("memory", _report_eats_memory, "roas collect", "web", "oom_killed",
              r"^web.*too much memory \(limit 128 MiB\)", "memory"),
        Break("disk", _disk_fills("web"), "roas collect", "web", "disk_full",
              "^web.*No space left on device", "100% .*/disk"),
    ),
    "board": (
        Break("image", _image("front", "ngnix:1"), "roas update", "front", "image_pull_failed",
              r"Image localhost:\d+/ngnix:1 of front was found neither", "/nginx +1"),
        Break("port", _port_of_a_program("front", 8080), "roas update", "front", "port_conflict",
              rf"Port \d+/tcp of front is taken by {PYTHON}", rf"LISTEN.*{PYTHON}"),
        Break("folder", _owned_by_root("disk/redis"), "roas restart", "cache", "volume_mount",
              "^cache .*Permission denied", r" 0 +0 .*/redis"),
        Break("password", _service("web", environment={"REDIS_PASSWORD": "old"}), "roas update", "web", "redis_state",
              "^web .*WRONGPASS", "compose.yaml:.*REDIS_PASSWORD"),
        Break("memory", _service("web", mem_limit="96m"), "roas start", "web", "oom_killed",
              r"^web .*too much memory \(limit 96 MiB\)", "mem_limit: 96m"),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def applications(
    prefect_server: None, images: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], BrokenApp]]:
    """The applications, each made when it is first asked for."""
    webhook, made = Webhook(), dict[str, BrokenApp]()
    thread = threading.Thread(target=webhook.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    asyncio.run(save_block(webhook.url))

    with ExitStack() as stack:

        def application(kind: str) -> BrokenApp:
            if kind not in made:
                folder = tmp_path_factory.mktemp(kind)
                one = BrokenApp(
                    kind=kind, folder=folder, registry=images, variables=server_variables(), webhook=webhook
                )
                right = [images.image(name) for name in ("shop:1.0", "mariadb:11", "nginx:1")]
                for name in right:
                    docker_command("tag", IMAGE, name)
                stack.callback(subprocess.run, ["docker", "rmi", *right], capture_output=True)
                stack.enter_context(disk_of(folder / "disk", megabytes=DISK_MEGABYTES[kind]))
                stack.callback(subprocess.run, ["docker", "volume", "rm", f"{one.project}_db"], capture_output=True)
                stack.callback(remove_project, one.project)
                made[kind] = one
            return made[kind]

        yield application
    webhook.server.shutdown()
    thread.join()
    webhook.server.server_close()


def check(application: BrokenApp, broken: Break) -> None:
    """Break an application as a stranger would; check the report of it, its command and the number of messages."""
    kind = application.kind
    application.data = application.folder / f"data-{broken.name}"
    application.write()
    good = application.run(f"roas start {kind} --quiet")
    assert good.returncode == 0, good.stderr + good.stdout
    application.webhook.got.clear()

    with ExitStack() as held:
        if (lasting := broken.how(application)) is not None:
            held.enter_context(lasting)
        said = application.run(f"{broken.types} {kind}")
        report = _report_of(application, said)
        # A collection meanwhile does not report the same again.
        application.run(f"roas collect {kind}")
        messages = [one["subject"] for one in application.webhook.got]
    print(*("|", kind, broken.name, *map(str, report.values()), messages, "|"), sep=" | ")

    assert report["service"] == broken.service, report
    assert report["category"] == broken.category, report
    assert re.search(broken.line, report["line"]), report
    assert report["exit code"] == 0, report
    assert re.search(broken.shows, report["step"] + report["printed"]), report
    assert len(messages) == 1, messages
    application.write()
    mended = application.run(f"roas start {kind} --quiet")
    assert mended.returncode == 0, mended.stderr + mended.stdout


def _report_of(application: BrokenApp, said: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The category, first line and first command, as `roas why` gives them, and what that command prints."""
    with Stores.open(Settings(data_dir=application.data)) as stores:
        errors = list(stores.errors.latest(application.kind))
    assert errors, said.stderr + said.stdout
    error = errors[0]
    why = json.loads(application.run(f"roas why {application.kind} --json").stdout)
    if "headline" in why:
        line, steps, service = why["headline"], why["commands"], why["service"]
    elif "ticket" in why:
        line, steps, service = f"{why['ticket']['title']} {why['first_cause']}", why["ticket"]["steps"], error.service
    else:
        # What was recovered by itself has no ticket; its message reports it.
        _, line, *facts = application.webhook.got[0]["body"].splitlines()
        steps, service = [one for one in facts if one.startswith("Next")], error.service
    found = next(((step, match[1]) for step in steps if (match := _COMMAND.search(step))), ("", "false"))
    ran = application.run(found[1])
    return {
        "service": service,
        "category": str(error.verdict.category),
        "line": line,
        "step": found[0],
        "exit code": ran.returncode,
        "printed": ran.stdout + ran.stderr,
        "steps": steps,
        "errors": [f"{one.error_id} {one.service} {one.verdict.category}: {one.text}" for one in errors],
        "said": said.stdout + said.stderr,
    }
