"""A real application from its plan to its stop, with failures and recoveries: the output of each command.

Times, durations, ids, the project's name and measured figures are replaced; all else must be as expected.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden.conftest import HERE, CommandOutput, RoasCommand, golden
from tests.support.commands import ForkedRoas, own_process, quiet_environment
from tests.support.docker_command import docker_command
from tests.support.prefect_server import ask, server_variables

pytestmark = [pytest.mark.engine, pytest.mark.flow]

REFUSED = """sh -c 'echo "FATAL: password authentication failed for user app" >&2; exit 1'"""
WAITING = "sh -c 'until test -e /tmp/go; do sleep 0.1; done; touch /tmp/ready; exec sleep 3600'"
ENVIRONMENTS = {
    "broken.yaml": "name: [broken\n",
    "misspelt.yaml": "name: misspelt\nproject: shop\ncompose_file: shop/compose.yaml\n",
    "wrong.yaml": "name: wrong\nproject: shop\ncompose_files: [shop/compose.yaml]\nstart_timeout_seconds: soon\n",
    "away.yaml": "name: away\nproject: away\ncompose_files: [shop/compose.yaml]\nengine: unix:///nosuch/docker.sock\n",
}
ID = re.compile(
    r"\b(?:(?:shop|broken|misspelt|wrong|away)-\d{8}-\d{6}-[0-9a-f]{4}|err-\d{8}-\d{6}-[0-9a-f]{6}|T-\d{6}-[0-9a-f]{4}"
    r"|r-\d{8}-\d{6}-[0-9a-f]{4}|alert-[0-9a-f]{16}|plan-[0-9a-f]+|evi-[\w-]+)\b"
)
REPLACED = [
    (r"^ *\d+\.\d s  ", ""),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:\+00:00|Z)?", "TIME"),
    (r"\d{4}-\d\d-\d\d(?: \d\d:\d\d)?", "DAY"),
    (r"\b\d\d-\d\d \d\d:\d\d\b", "TIME"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"\b[\d.]+ (?:s|ms|min)\b", "N s"),
    (r"\b[\d.]+ to [\d.]+\b", "N to N"),
    (r"\b(?=[a-f]*\d)(?:[0-9a-f]{8}|[0-9a-f]{12,64})\b", "HEX"),
    (r"^engine: .*", "engine: FACTS"),
    (r"\b[\d.,]+ (?:B|KiB|MiB|GiB)\b", "SIZE"),
    (r"\broot \(uid 0\)|\b\w+ \(uid \d+\)", "USER"),
    (r"person: \w+", "person: USER"),
    (r"pid \d+ on [\w.-]+", "pid N on HOST"),
    (r"(?<=[^ \n])  +", "  "),
    (r" +$", ""),
]


class LiveShop:
    """The application `shop` under a project name of its own."""

    def __init__(self, folder: Path, server: ForkedRoas, reader: ForkedRoas) -> None:
        self.folder = folder
        self.project = f"shop{secrets.token_hex(3)}"
        self.roas = RoasCommand(server, folder, now=None)
        self.read = RoasCommand(reader, folder, now=None)
        self.seen: dict[str, str] = {}
        shutil.copytree(HERE / "shop", folder, dirs_exist_ok=True)
        for name, text in ENVIRONMENTS.items():
            (folder / name).write_text(text)
        file = folder / "shop.yaml"
        file.write_text(file.read_text().replace("project: shop", f"project: {self.project}"))
        self.compose = folder / "shop" / "compose.yaml"
        self.good = self.compose.read_text().replace("name: shop\n", "")
        self.compose.write_text(self.good)

    def change(self, service: str, command: str) -> None:
        """Give a service another command."""
        before, found, after = self.good.partition(f"  {service}:\n")
        assert found
        lines = re.sub(r"^    command: .*$", f"    command: {json.dumps(command)}", after, count=1, flags=re.MULTILINE)
        self.compose.write_text(before + found + lines)

    def kill(self, service: str) -> None:
        docker_command("kill", f"{self.project}-{service}-1")

    def plain(self, text: str) -> str:
        """Without what differs from one run to the next; ids are numbered as they appear."""
        text = text.replace(self.project, "shop")
        for one in ID.findall(text):
            kind = re.match(r"err|alert|T|r|plan|evi", one)
            named = {"err": "ERROR", "alert": "ALERT", "T": "TICKET", "r": "RELEASE", "plan": "PLAN", "evi": "EVIDENCE"}
            word = named[kind[0]] if kind and re.match(r"(?:err|alert|T|r|plan|evi)-", one) else "OPERATION"
            count = sum(known.startswith(word) for known in self.seen.values())
            self.seen.setdefault(one, f"{word}-{count + 1}")
        text = ID.sub(lambda found: self.seen[found[0]], text)
        for pattern, by in REPLACED:
            text = re.sub(pattern, by, text, flags=re.MULTILINE)
        return text

    def clean(self) -> None:
        # Named, since Compose would read the file of the current folder, and stop where that cannot be used.
        named = ["-p", self.project, "-f", str(self.compose)]
        docker_command("compose", *named, "down", "-t", "1", "--remove-orphans")


@pytest.fixture(scope="module")
def server(prefect_server: None) -> Iterator[ForkedRoas]:
    """Commands whose runs the tests' server records."""
    chosen = {key: value for key, value in server_variables().items() if key.startswith("PREFECT_API")}
    made = ForkedRoas(quiet_environment() | chosen, "prefect")
    yield made
    made.close()


@pytest.fixture
def shop(tmp_path: Path, server: ForkedRoas, runner: ForkedRoas) -> Iterator[LiveShop]:
    made = LiveShop(tmp_path, server, runner)
    yield made
    made.clean()


def measured(text: str) -> str:
    """A collection without the figures, and without how often they are there: containers may be too young for them."""
    lines = []
    for line in text.splitlines():
        shown = re.sub(r"^(host|db|web)(  [\d. ]+)?$", r"\1  FIGURES", line)
        lines.append(re.sub(r"\d+ metrics", "N metrics", shown))
    return "\n".join(lines)


def first_id(shop: LiveShop, what: str) -> str:
    return json.loads(shop.read(what, "shop", "--json").out)[0]["ticket_id"]


def scenes(shop: LiveShop) -> Iterator[tuple[str, CommandOutput]]:
    """What happens to the shop, in order; each command with its number and name."""
    yield "plan", shop.roas("plan", "shop")
    yield "validate", shop.roas("validate", "shop")
    yield "start", shop.roas("start", "shop")
    yield "health", shop.roas("health", "shop")
    yield "collect", shop.roas("collect", "shop")
    yield "drift", shop.roas("drift", "shop")
    shop.kill("web")
    yield "drift of a dead service", shop.roas("drift", "shop")
    yield "collect and recover", shop.roas("collect", "shop")
    line = ("recover", "shop", "exited with code 137", "--service", "web")
    yield "recover from a line of a healthy service", shop.roas(*line)
    shop.kill("web")
    yield "recover, dry run", shop.roas(*line, "--dry-run")
    docker_command("start", f"{shop.project}-web-1")
    docker_command("pause", f"{shop.project}-db-1")
    yield "recover a paused service", shop.roas("recover", "shop", "ERROR: warp drive failed", "--service", "db")
    yield "ticket", shop.read("tickets", first_id(shop, "tickets"))
    yield "resolve", shop.roas("resolve", first_id(shop, "tickets"), "--note", "replaced the drive")
    docker_command("unpause", f"{shop.project}-db-1")
    shop.change("db", REFUSED)
    yield "plan of a change", shop.roas("plan", "shop")
    yield "start that fails", shop.roas("start", "shop")
    yield "why", shop.read("why")
    shop.compose.write_text(shop.good)
    yield (
        "resolve with retry",
        shop.roas("resolve", first_id(shop, "tickets"), "--decision", "retry", "--note", "the password is back"),
    )
    yield "restart", shop.roas("restart", "shop", "web")
    yield "rollback", shop.roas("rollback", "shop")
    yield "report", shop.roas("report", "shop")
    yield "clean up, dry run", shop.roas("db", "clean", "--dry-run")
    yield "notify list", shop.roas("notify", "list")
    yield "stop", shop.roas("stop", "shop")
    yield "health of what is stopped", shop.roas("health", "shop")
    yield "status of what is stopped", shop.read("status", "shop")


def test_life_of_an_application(shop: LiveShop) -> None:
    texts = [f"# {name}\n{measured(shop.plain(done.transcript()))}\n" for name, done in scenes(shop)]

    golden("live.txt", "\n".join(texts))


def test_errors_of_operations(shop: LiveShop) -> None:
    texts = [shop.plain(shop.roas("start", name).transcript()) for name in ("broken", "misspelt", "wrong", "away")]
    texts.append(shop.plain(shop.roas("plan", "-f", "missing.yaml").transcript()))
    shop.change("db", WAITING)
    starting = subprocess.Popen(
        own_process(shop.roas.request("start", "shop")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not docker_command("ps", "--quiet", "--filter", f"name={shop.project}-db-1"):
        assert time.monotonic() < deadline
        assert starting.poll() is None
        time.sleep(0.1)
    texts.append("# while another start runs\n" + shop.plain(shop.roas("start", "shop").transcript()))
    docker_command("exec", f"{shop.project}-db-1", "touch", "/tmp/go")
    assert starting.wait(90) == 0

    golden("live_errors.txt", "\n".join(texts))


def test_automations_on_the_server(server: ForkedRoas) -> None:
    module = re.search(r"python -m (\S+automations)\b", (HERE.parents[1] / "docker-compose.yml").read_text())
    assert module
    subprocess.run([sys.executable, "-m", module[1]], env=server.variables, check=True)

    url, credentials = (server.variables[f"PREFECT_API_{one}"] for one in ("URL", "AUTH_STRING"))
    found = ask(url, credentials, "automations/filter", {})

    shown = [{key: one[key] for key in ("name", "description", "enabled", "trigger", "actions")} for one in found]
    for one in shown:
        one["trigger"] = {
            key: sorted(value) if isinstance(value, list) else value
            for key, value in one["trigger"].items()
            if key != "id"
        }
    golden("automations.json", json.dumps(sorted(shown, key=lambda one: one["name"]), indent=2, sort_keys=True))
