"""`roas doctor` on real folders, files and sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.doctor import data_folder, installed_programs
from adapters.server.workers import server_facts
from cli.main import roas
from models.doctor import ServerFacts
from tests.support.ports import free_port

ENVIRONMENT = """\
compose_files: [compose.yaml]
project: shop
engine: tcp://127.0.0.1:{port}
secrets: [{{name: SHOP_TOKEN, file: token}}]
"""


ANSWERS = {
    "/api/health": True,
    "/api/work_pools/filter": [{"name": "roas", "type": "process"}],
    "/api/work_pools/roas/workers/filter": [{"status": "ONLINE"}, {"status": "OFFLINE"}],
}


class _Api(BaseHTTPRequestHandler):
    """Answers as a Prefect server with one work pool does, which wants a password for all but its health."""

    def do_GET(self) -> None:
        self._answer(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(200 if self.headers.get("Authorization") else 401)

    def _answer(self, status: int) -> None:
        body = json.dumps(ANSWERS[self.path]).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def api() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Api) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()


@pytest.fixture
def doctor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in a folder of its own, where no engine and no server answer."""
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path))
    monkeypatch.setenv("ROAS_SERVER_PORT", str(free_port()))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "shop.yaml").write_text(ENVIRONMENT.format(port=free_port()))
    (tmp_path / "token").write_text("correct-horse-7")
    (tmp_path / "token").chmod(0o644)
    tmp_path.chmod(0o755)
    return lambda *words: CliRunner().invoke(roas, ["doctor", *words])


def test_names_what_is_wrong_with_its_fix(doctor: Callable[..., Result], tmp_path: Path) -> None:
    done = doctor("shop", "--json")
    assert done.exit_code == 1
    lines = {one["name"]: one for one in json.loads(done.stdout)}
    assert lines["engine"]["verdict"] == "wrong"
    assert lines["engine"]["fix"].startswith("docker --host tcp://127.0.0.1:")
    assert lines["shop"]["fix"] == f"chmod 600 {tmp_path / 'token'}"
    assert lines["shop watch"]["verdict"] == "warning"
    assert lines["server"]["verdict"] == "ok"
    assert "correct-horse-7" not in done.output


def test_makes_no_stores(doctor: Callable[..., Result], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    doctor("shop")
    assert sorted(tmp_path.iterdir()) == before


def test_reports_an_environment_that_is_not_there(doctor: Callable[..., Result]) -> None:
    done = doctor("nosuch")
    assert done.exit_code == 1
    assert "There is no environment 'nosuch'" in done.output


def test_lists_the_files_of_an_open_data_folder(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o755)
    (data / "errors.db").touch(mode=0o644)
    (data / "private.db").touch(mode=0o600)
    found = data_folder(data)
    assert [(one.path.name, one.is_folder) for one in found.exposed] == [("data", True), ("errors.db", False)]
    data.chmod(0o700)
    assert data_folder(data).exposed == ()
    assert not data_folder(tmp_path / "later").exists


def test_counts_the_workers_online(api: str) -> None:
    assert server_facts(api, "roas:password") == ServerFacts(url=api, workers={"roas": 1})


def test_says_that_the_server_wants_a_password(api: str) -> None:
    assert server_facts(api, None).wants_password


def test_says_why_a_server_does_not_answer() -> None:
    found = server_facts(f"http://user:secret-7@127.0.0.1:{free_port()}/api", None)
    assert "refused" in found.problem
    assert "secret-7" not in str(found)


def test_reads_the_versions_that_are_installed_and_required() -> None:
    assert [(one.name, one.fits, bool(one.version)) for one in installed_programs()] == [
        ("Python", True, True),
        ("Prefect", True, True),
        ("SQLite", True, True),
    ]


@pytest.mark.engine
def test_says_which_service_is_not_replaced_start_first_as_a_plan_does(
    doctor: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "shop.yaml").write_text(
        f"compose_files: [compose.yaml]\nproject: doctor-{free_port()}\nservices: {{web: {{order: start-first}}}}\n"
    )
    (tmp_path / "compose.yaml").write_text(
        "services:\n  web: {image: debian:trixie-slim, ports: ['8080:80']}\n  db: {image: debian:trixie-slim}\n"
    )

    lines = [one for one in json.loads(doctor("shop", "--json").stdout) if one["name"] == "shop update"]

    assert [(one["verdict"], one["finding"], one["fix"]) for one in lines] == [
        (
            "warning",
            "web is not replaced start-first: port 8080 of the host is fixed.",
            "roas plan --update shop",
        )
    ]
