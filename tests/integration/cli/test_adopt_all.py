"""`roas adopt --all`, at an engine that only lists containers: what it shows, writes, leaves out, and does twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from click.testing import CliRunner, Result

from adapters.config.environments import read_environment
from cli.main import roas
from models.failures import BadInputError


class ListingEngine(BaseHTTPRequestHandler):
    """Answers as an engine with a container of each project, and with nothing else; sends no change anywhere."""

    labels: list[dict[str, str]]
    networks: list[dict[str, object]]

    def do_GET(self) -> None:
        path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
        asked = json.loads(query.get("filters", ["{}"])[0]).get("label", [])
        answer: object = {"message": "there is none"}
        if path.endswith("/version"):
            answer = {"ApiVersion": "1.43"}
        elif path.endswith("/containers/json"):
            answer = [
                {"Id": "c" * 64, "Created": 1, "Labels": one}
                for one in self.labels
                if all(label in one or label in {f"{name}={value}" for name, value in one.items()} for label in asked)
            ]
        elif path.endswith("/networks"):
            answer = self.networks
        content = json.dumps(answer).encode()
        self.send_response(404 if isinstance(answer, dict) and "message" in answer else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the Compose files of two projects that run; those of a third are gone."""
    for name in ("DOCKER_CONTEXT", "COMPOSE_PROJECT_NAME", "COMPOSE_FILE", "COMPOSE_PROFILES", "ROAS_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    handler = type("Engine", (ListingEngine,), {"labels": [], "networks": []})
    for project in ("data", "gone", "shop"):
        file = tmp_path / project / "compose.yaml"
        if project != "gone":
            file.parent.mkdir()
            file.write_text("services: {db: {image: acme/db, restart: always}}\n")
        handler.labels.append(labels_of(project, file))
    (tmp_path / "shop/compose.yaml").write_text(
        "services: {web: {image: acme/web, restart: always, networks: [data]}}\n"
        "networks: {data: {external: true, name: data_net}}\n"
    )
    handler.labels.append(labels_of("scratch", tmp_path / "none.yaml") | {"com.docker.compose.oneoff": "True"})
    handler.networks.append({"Name": "data_net", "Labels": {"com.docker.compose.project": "data"}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    (tmp_path / "environments").mkdir()
    monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(tmp_path / "environments"))
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data-folder"))
    yield tmp_path
    server.shutdown()
    thread.join()
    server.server_close()


def labels_of(project: str, file: Path) -> dict[str, str]:
    return {
        "com.docker.compose.project": project,
        "com.docker.compose.project.config_files": str(file),
        "com.docker.compose.project.working_dir": str(file.parent),
        "com.docker.compose.oneoff": "False",
    }


def run(*words: str) -> Result:
    return CliRunner().invoke(roas, ["adopt", *words])


def test_every_project_that_runs_is_adopted_once_and_one_that_cannot_be_is_named(folder: Path) -> None:
    asked = run("--all")
    assert isinstance(asked.exception, BadInputError), "nobody is there to be asked"
    assert list((folder / "environments").iterdir()) == []
    refused = str(run("gone").exception)
    assert refused.startswith(f"The Compose files of project gone are gone: {folder}/gone/compose.yaml.")
    places = {name: folder / "environments" / f"{name}.yaml" for name in ("data", "shop")}
    assert asked.output.splitlines() == [
        f"data: {places['data']} would be written",
        f"gone: cannot be adopted: {refused}",
        f"shop: {places['shop']} would be written",
    ]

    adopted = run("--all", "--yes")
    assert adopted.exit_code == 1
    assert [line.partition(",")[0] for line in adopted.output.splitlines() if ": wrote " in line] == [
        f"{name}: wrote {place}" for name, place in places.items()
    ]
    assert read_environment(places["data"], "data").project == "data"
    assert read_environment(places["shop"], "shop").needs == ("data",), "its network is made by data"

    (folder / "gone").mkdir()
    (folder / "gone/compose.yaml").write_text("services: {db: {image: acme/db}}\n")
    last = run("--all", "--yes")
    assert last.exit_code == 0
    assert last.output.startswith(f"gone: {folder}/environments/gone.yaml would be written\ngone: wrote ")
    again = run("--all", "--yes")
    assert (again.exit_code, again.output) == (
        0,
        "nothing to do: every Compose project that runs is an environment\n",
    )


@pytest.mark.parametrize("words", [["--all", "shop"], ["--all", "--output", "x.yaml"], ["--all", "--json"], []])
def test_what_does_not_go_together_is_refused_in_one_line(folder: Path, words: list[str]) -> None:
    refused = run(*words).exception
    assert isinstance(refused, BadInputError)
    assert "\n" not in str(refused)


def test_a_network_of_an_environment_that_is_not_known_is_no_need(folder: Path) -> None:
    assert run("shop").exit_code == 0
    assert read_environment(folder / "environments/shop.yaml", "shop").needs == ()
