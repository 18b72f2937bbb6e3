"""The wheel in an environment of its own, used outside of the checkout on an application that is not ours."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.support.docker_command import docker_command

ROOT = Path(__file__).parents[3]
MIB = 1024 * 1024

COMPOSE = """
services:
  store:
    image: debian:trixie-slim
    command: [sleep, infinity]
    init: true
    healthcheck: {test: ["CMD", "test", "-e", "/etc/debian_version"], interval: 1s}
  web:
    image: debian:trixie-slim
    command: [sleep, infinity]
    init: true
    depends_on: {store: {condition: service_healthy}}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    return next(folder.glob("*.whl"))


@dataclass(frozen=True)
class Installed:
    """The command in a fresh environment, with a home and folders of its user's own."""

    program: Path
    home: Path
    project: str

    @property
    def shop(self) -> Path:
        return self.home / self.project

    @property
    def data(self) -> Path:
        return self.home.parent / "data"

    def __call__(self, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [self.program, *words], cwd=cwd or self.shop, env=self.variables, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def variables(self) -> dict[str, str]:
        dropped = ("ROAS_", "PREFECT_", "XDG_", "COMPOSE_", "PYTHON", "VIRTUAL_ENV")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        own = {"HOME": self.home, "XDG_DATA_HOME": self.data, "XDG_CONFIG_HOME": self.home.parent / "config"}
        return kept | {name: str(folder) for name, folder in own.items()} | {"ROAS_WARM": "0"}


@pytest.fixture(scope="module")
def roas(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installed]:
    place = tmp_path_factory.mktemp("installed")
    uv, venv = Path(sys.executable).with_name("uv"), place / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, venv], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", venv / "bin/python"]
    subprocess.run([*install, "--require-hashes", "-r", ROOT / "requirements.txt"], check=True)
    subprocess.run([*install, "--no-deps", wheel], check=True)
    made = Installed(venv / "bin/roas", place / "home", f"roas-install-{uuid.uuid4().hex[:8]}")
    made.shop.mkdir(parents=True)
    (made.shop / "compose.yaml").write_text(COMPOSE)
    yield made
    docker_command("compose", "-p", made.project, "down", "--volumes", "--timeout", "1")


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_the_wheel_holds_what_is_read_and_is_light(wheel: Path) -> None:
    assert wheel.stat().st_size < 2 * MIB
    with zipfile.ZipFile(wheel) as opened:
        names = set(opened.namelist())
    assert {
        "models/environment.schema.json",
        "patterns/words.yaml",
        "patterns/programs/programs.yaml",
        "deployments/sample/compose.yaml",
        "deployments/images/redis/Dockerfile",
        "deployments/environments/dev.yaml",
    } <= names
    assert not any(name.startswith(("tests/", "benchmarks/", "docs/", "deployments/setup/")) for name in names)


@pytest.mark.engine
@pytest.mark.flow
@pytest.mark.campaign
def test_an_application_is_adopted_and_started_from_an_empty_place(roas: Installed) -> None:
    before = files_below(roas.home)

    assert "wrote" in roas("init")
    assert "success" in roas("start", "--quiet")

    elsewhere = roas.home / "elsewhere"
    elsewhere.mkdir()
    (status,) = json.loads(roas("status", "--json", cwd=elsewhere))
    assert status["environment"] == roas.project
    roas("stop", roas.project, cwd=elsewhere)
    operations = json.loads(roas("history", "--json", cwd=elsewhere))
    assert [(one["operation_type"], one["status"]) for one in operations] == [("stop", "success"), ("start", "success")]

    # One file beside the Compose file, nothing else in the home folder, and data that its owner alone may read.
    # Its first server keeps the database that it made for later ones.
    kept = {f".cache/roas/prefect-{version('prefect')}/{name}" for name in ("memo_store.toml", "prefect.db")}
    assert files_below(roas.home) - before == {f"{roas.project}/roas.yaml", *kept}
    assert [path.name for path in roas.data.iterdir()] == ["roas"]
    assert not (roas.home.parent / "config").exists()
    assert stat.S_IMODE((roas.data / "roas").stat().st_mode) == 0o700


@pytest.mark.engine
@pytest.mark.campaign(seconds=15)
def test_what_the_wheel_ships_is_found_from_any_folder(roas: Installed) -> None:
    place = roas.home.parent
    assert json.loads(roas("schema", cwd=place))["title"] == "Environment"
    classified = json.loads(roas("classify", "--json", 'FATAL: password authentication failed for user "app"'))
    assert classified["pattern_name"] == "postgres_login_refused"
    roas("sample", "trial", cwd=place)
    assert (place / "trial/images/redis/Dockerfile").is_file()
    validated = json.loads(roas("validate", "--json", cwd=place / "trial"))
    assert all(one["passed"] for one in validated["checks"])


@pytest.fixture
def image() -> Iterator[str]:
    """The image that runs without a checkout, under a tag of its own."""
    tag = f"roas-install-test:{uuid.uuid4().hex[:8]}"
    certificates = "id=certificates,src=/etc/ssl/certs/ca-certificates.crt"
    dockerfile = "deployments/images/roas/Dockerfile"
    build = ["docker", "build", "--quiet", "--file", dockerfile, "--secret", certificates]
    subprocess.run([*build, "--build-arg", "PIP_INDEX_URL", "--tag", tag, "."], cwd=ROOT, check=True)
    yield tag
    docker_command("image", "rm", "--force", tag)


@pytest.mark.engine
@pytest.mark.flow
@pytest.mark.campaign
def test_the_image_starts_an_application_and_probes_it(image: str, tmp_path: Path) -> None:
    project = f"roas-image-{uuid.uuid4().hex[:8]}"
    shop = tmp_path / project
    shop.mkdir()
    # A probe reaches it only from the host's network.
    (shop / "compose.yaml").write_text(
        "services: {cache: {image: 'roas/redis:local', environment: {REDIS_PASSWORD: x}, expose: [6379]}}\n"
    )
    socket = "/var/run/docker.sock:/var/run/docker.sock"
    run = ["docker", "run", "--rm", "-v", socket, "-v", f"{project}:/var/lib/roas", "-v", f"{shop}:{shop}"]
    roas = [*run, "-w", str(shop), image, "roas"]
    try:
        subprocess.run([*roas, "init"], check=True, capture_output=True)
        assert "probe:" in (shop / "roas.yaml").read_text()
        done = subprocess.run([*roas, "start", "--quiet"], capture_output=True, text=True)
        assert "success" in done.stdout, done.stdout + done.stderr
        operations = json.loads(subprocess.run([*roas, "history", "--json"], check=True, capture_output=True).stdout)
        assert [one["status"] for one in operations] == ["success"]
        leftover = ["docker", "ps", "--all", "--quiet", "--filter", f"ancestor={image}"]
        assert subprocess.run(leftover, check=True, capture_output=True).stdout == b""
    finally:
        docker_command("compose", "-p", project, "down", "--volumes", "--timeout", "1")
        docker_command("volume", "rm", project)
