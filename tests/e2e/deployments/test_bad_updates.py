"""Bad versions of an application with a database and a proxy, under requests: what serves then, and what is said."""

from __future__ import annotations

import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import docker
import pytest

from flows.deployment.startup import startup
from flows.deployment.update import update
from models.operations import Operation, OperationStatus
from models.records import Explanation
from models.results import OperationResult
from models.settings import Settings
from tasks.reporting.read import read_explanation
from tests.e2e.deployments.bad_versions import BAD, GOOD, POSTGRES, SCHEMA, BadVersion, Edit, Needs
from tests.e2e.flows.conftest import Place, flows_are_recorded  # noqa: F401 - fixture
from tests.e2e.gallery.__main__ import BUILD
from tests.support.commands import run_roas_text
from tests.support.data_application import PASSWORD, Data
from tests.support.docker_command import docker_command
from tests.support.fronts import asking
from tests.support.plain_tasks import tasks_make_no_runs  # noqa: F401 - fixture
from tests.support.ports import free_port
from tests.support.prefect_server import server_variables
from tests.support.projects import remove_project

pytestmark = [pytest.mark.engine, pytest.mark.flow]


SLOW_NGINX = """\
#!/bin/sh
case "$*" in
    *reload) (sleep 8; exec /usr/sbin/nginx "$@") >/dev/null 2>&1 & ;;
    *) exec /usr/sbin/nginx "$@" ;;
esac
"""
"""In front of the real one: it returns at once, and reloads as late as on a busy machine."""


@dataclass(slots=True)
class Shop:
    """The application, which the cases share that leave it as it was, and a container of another project beside it."""

    place: Place
    port: int = field(default_factory=free_port)
    is_good: bool = False
    """Whether it serves the good version, as every case has to leave it."""

    @property
    def bystander(self) -> str:
        """The other project."""
        return f"{self.place.project}-other"

    def write(self, *edits: Edit) -> None:
        """Write the good version's files, with a bad one's words."""
        texts = dict(GOOD)
        for file, old, new in edits:
            assert old in texts[file], (file, old)
            texts[file] = texts[file].replace(old, new)
        for file, text in texts.items():
            (self.place.folder / file).parent.mkdir(exist_ok=True)
            (self.place.folder / file).write_text(self.named(text))

    def named(self, text: str) -> str:
        for name, value in {"PORT": self.port, "PROJECT": self.place.project}.items():
            text = text.replace(f"@{name}@", str(value))
        return text

    @property
    def data(self) -> Data:
        return Data(self.place.project)

    async def begin(self) -> None:
        """Let the good version serve, proven and with its data, unless the case before has left it so."""
        self.write()
        if self.is_good:
            self.wake_up()
            return
        labels = [f"com.docker.compose.{one}" for one in (f"project={self.bystander}", "service=bystander")]
        command = ["docker", "run", "--detach", "--init", *(word for one in labels for word in ("--label", one))]
        subprocess.run([*command, "debian:trixie-slim", "sleep", "infinity"], check=True, capture_output=True)
        result = await startup("test")
        assert isinstance(result, OperationResult)
        assert result.success
        self.data.postgresql(f"{SCHEMA}; insert into orders (note) values ('first');")
        assert self.serves()

    def all(self, what: str) -> None:
        """Pause or unpause what runs of it: between two cases it would take a processor from other tests."""
        docker_command(what, *self.running())

    def wake_up(self) -> None:
        """Let it go on, and wait until it is healthy: no check of what was paused has passed meanwhile."""
        self.all("unpause")
        while len(self.running("health=healthy")) < len(self.running()):
            time.sleep(0.1)

    def running(self, *which: str) -> list[str]:
        """The ids of its containers that run, and are as these filters say."""
        filters = (f"label=com.docker.compose.project={self.place.project}", *which)
        mine = ["docker", "ps", "--quiet", *(word for one in filters for word in ("--filter", one))]
        return subprocess.run(mine, check=True, capture_output=True, text=True).stdout.split()

    def remove(self) -> None:
        """Remove what the engine has of it."""
        for project in (self.place.project, self.bystander):
            remove_project(project)
        with closing(docker.APIClient()) as client:
            mine = {"label": f"com.docker.compose.project={self.place.project}"}
            for volume in client.volumes(mine)["Volumes"] or ():
                client.remove_volume(volume["Name"], force=True)
        command = ["docker", "image", "rm", "--force", f"{self.place.project}-app"]
        subprocess.run(command, capture_output=True, check=False)

    def serves(self) -> bool:
        """Whether the good version answers through the proxy, with its data."""
        command = ["curl", "--fail", "--silent", "--max-time", "60", f"http://127.0.0.1:{self.port}/"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        columns = "select string_agg(column_name, ' ') from information_schema.columns where table_name = 'orders'"
        # It answers first, so the database runs.
        return answer == "1" and self.data.postgresql(columns) == "id note" and self.orders("where note = 'first'") == 1

    def orders(self, which: str = "") -> int:
        return int(self.data.postgresql(f"select count(*) from orders {which}"))

    def containers(self) -> dict[str, tuple[str, ...]]:
        """Each container's id, start and state, by its service; the bystander's as that of its project."""
        found = {}
        with closing(docker.APIClient()) as client:
            for project in (self.place.project, self.bystander):
                mine = {"label": f"com.docker.compose.project={project}"}
                for one in client.containers(all=True, filters=mine):
                    state = client.inspect_container(one["Id"])["State"]
                    service = one["Labels"]["com.docker.compose.service"]
                    found[service] = (one["Id"], state["StartedAt"], state["Status"])
        return found

    def last(self) -> Operation:
        with self.place.stores() as stores:
            return stores.operations.history(environment="test", limit=1)[0]

    def run(self, command: str) -> str:
        """Run a command as it is printed; a person's answer to its question is yes. Empty where it succeeds."""
        words = shlex.split(command)
        words += ["--yes"] * (words[1:3] == ["snapshot", "restore"])
        if words[0] != "roas":
            done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        else:
            done = run_roas_text(*words[1:], cwd=self.place.folder, env=server_variables())
        return "" if done.returncode == 0 else f"{command} ended with {done.returncode}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def made() -> Iterator[list[Shop]]:
    """Those that the cases of this process have made."""
    subprocess.run([BUILD], check=True, capture_output=True)
    command = ["docker", "build", "--quiet", "--tag", "roas-bad-updates/postgres", "-"]
    subprocess.run(command, input=POSTGRES, text=True, check=True, capture_output=True)
    found: list[Shop] = []
    yield found
    for one in found:
        one.remove()


@pytest.fixture
def shop(made: list[Shop], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """The one that the case before has left good, or a new one."""
    if not made:
        folder = tmp_path_factory.mktemp("shop")
        project, settings = f"roas-test-{secrets.token_hex(4)}", Settings(data_dir=folder / "data")
        made.append(Shop(Place(folder=folder, project=project, settings=settings)))
    mine = made[-1]
    monkeypatch.setenv("ROAS_DATA_DIR", str(mine.place.settings.data_dir))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(mine.place.folder))
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    yield mine
    if mine.is_good:
        mine.all("pause")
    else:
        mine.remove()
        made.remove(mine)


@pytest.mark.parametrize(
    "version",
    [
        pytest.param(one, id=one.name, marks=pytest.mark.campaign(seconds=10 if one.needs is Needs.REPAIR else 25))
        for one in BAD
    ],
)
async def test_after_a_bad_update_the_good_version_serves_with_its_data(shop: Shop, version: BadVersion) -> None:
    await shop.begin()
    shop.is_good = False
    before, orders = shop.containers(), shop.orders()
    shop.write(*version.edits)

    with asking(shop.port, 20) as client:
        await update("test", return_state=True)

    operation = shop.last()
    assert operation.kind == "update"
    explained = read_explanation(operation.deployment_id)
    after = shop.containers()
    touched = sorted(name for name in before.keys() - set(version.changes.split()) if after.get(name) != before[name])
    left = sorted(after.keys() - before.keys())
    command = first_command(explained)
    complaints = [
        *([] if operation.status is OperationStatus.FAILED else [f"the update is {operation.status}"]),
        *([] if re.search(shop.named(version.words), explained.headline) else [f"its cause is {explained.headline!r}"]),
        *([f"{', '.join(touched)} touched, though unchanged"] if touched else []),
        *([f"{', '.join(left)} left behind"] if left else []),
    ]
    if version.needs is not Needs.DATA:
        complaints += [] if shop.serves() else ["the good version does not serve"]
        lost = sum(client.answers.values()) - (shop.orders() - orders)
        complaints += [f"{lost} orders are lost"] if lost > 0 else []
    if version.needs is Needs.REPAIR:
        shop.write()
    complaints += wrong_command(command, version, operation)
    if ended := shop.run(command):
        complaints.append(ended)
    shop.write()
    shop.is_good = shop.serves()
    complaints += [] if shop.is_good else ["after the first command the good version does not serve with its data"]
    figures = f"{client.sent} requests, {len(client.failures)} failed, {operation.duration}"
    print("|", version.name, "|", explained.headline, "|", command, "|", complaints, "|", figures, "|")
    assert complaints == []


@pytest.mark.campaign(seconds=60)
async def test_the_smoke_test_after_a_rollback_waits_for_a_proxy_that_is_slow_to_follow(shop: Shop) -> None:
    subnet = f"10.{secrets.randbelow(100) + 100}.{secrets.randbelow(256)}"

    def slow_to_reload(host: int) -> list[Edit]:
        networks = f"networks: {{default: {{ipam: {{config: [{{subnet: {subnet}.0/24}}]}}}}}}"
        path = "environment: {PATH: '/conf:/usr/local/bin:/usr/sbin:/usr/bin:/bin'}"
        return [
            ("compose.yaml", "volumes: {pg: {}", f"{networks}\nvolumes: {{pg: {{}}"),
            (
                "compose.yaml",
                "build: ./app",
                f"build: ./app\n    networks: {{default: {{ipv4_address: {subnet}.{host}}}}}",
            ),
            ("compose.yaml", "command: [nginx,", f"{path}\n    command: [nginx,"),
        ]

    shop.write(*slow_to_reload(10))
    script = shop.place.folder / "web/nginx"
    script.write_text(SLOW_NGINX)
    script.chmod(0o755)
    started = await startup("test")
    assert isinstance(started, OperationResult)
    assert started.success
    shop.data.postgresql(SCHEMA)
    [wrong] = (version for version in BAD if version.name == "answers 500 through the proxy")
    shop.write(*slow_to_reload(20), *wrong.edits)

    await update("test", return_state=True)

    details = shop.last().details
    assert details["undone"].endswith("3 services proven, also by hook smoke")
    assert details["data_proven"]


def first_command(explained: Explanation) -> str:
    """The first command under "do", as it stands there."""
    found = (re.search(r"(?:^|: |`)((?:roas|docker|grep|ls|df) [^`]*)", line) for line in explained.commands)
    return next((one[1] for one in found if one is not None), "")


def wrong_command(command: str, version: BadVersion, operation: Operation) -> list[str]:
    """What speaks against a command in what a version needs."""
    taken = [str(one["id"]) for one in operation.details.get("snapshots") or ()]
    right = {
        Needs.DATA: [f"roas snapshot restore test {one}" for one in taken],
        Needs.EVIDENCE: [f"roas why {operation.deployment_id} --evidence", *_of_the_files(command)],
        Needs.REPAIR: [
            "roas validate test",
            "roas update test",
            f"roas why {operation.deployment_id} --evidence",
            *_of_the_files(command),
        ],
    }[version.needs]
    return [] if command in right else [f"the first command is {command!r}, not one of {right}"]


def _of_the_files(command: str) -> list[str]:
    """A command that shows what is declared, or which images are there: it fails where it finds nothing."""
    return [command] if command.startswith(("grep ", "ls ", "df ", "docker image ls")) else []
