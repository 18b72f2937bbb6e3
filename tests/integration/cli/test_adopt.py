"""`roas init` on real Compose files: what is written loads, and holds no secret's value."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from adapters.config.environment_files import known_environments
from adapters.config.environments import declared_environment, load_environment, read_environment
from cli.main import roas
from models.environments import (
    DependencySpec,
    HttpProbe,
    PostgresqlProbe,
    RedisProbe,
    TcpProbe,
    environment_schema,
)
from models.failures import BadInputError, EnvironmentFileError, RoasError
from models.settings import current_settings

PASSWORD, TOKEN = "correct-horse-7", "MTk4NjIyNDgzNDcxOTI1MjQ4.Cl2FMQ.ZnCjm1XVW7vRze4b7Cq4se7kKWs"
COMPOSE = """\
services:
  web:
    build: .
    command: [sh, -c, "exec uvicorn shop:app --port 8000"]
    environment:
      DATABASE_URL: postgres://shop:${DB_PASSWORD}@database:5432/shop
      CACHE_HOST: cache
    ports: ["8000:8000"]
    depends_on: {migrate: {condition: service_completed_successfully}}
    healthcheck: {test: [CMD-SHELL, "curl -f http://localhost:8000/healthz"]}
    restart: unless-stopped
  migrate:
    build: .
    command: alembic upgrade head
  db:
    image: postgres:16
    container_name: database
    environment: {POSTGRES_PASSWORD: "${DB_PASSWORD}"}
    restart: unless-stopped
  cache:
    image: redis:7
    command: redis-server --requirepass ${CACHE_PASSWORD}
    restart: unless-stopped
  bot:
    image: acme/bot
    environment: [DISCORD_TOKEN]
    expose: [9000]
    restart: always
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stranger's application, in whose folder the command is called."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / ".env").write_text(f"DB_PASSWORD={PASSWORD}\nCACHE_PASSWORD={PASSWORD}\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DISCORD_TOKEN", TOKEN)
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    for name in ("ROAS_ENVIRONMENTS_DIR", "COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "DOCKER_HOST"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def run(shop: Path) -> Callable[..., Result]:
    return lambda *words: CliRunner().invoke(roas, words)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_writes_an_environment_that_later_commands_find(shop: Path, run: Callable[..., Result]) -> None:
    before = files_of(shop)
    done = run("init")
    assert done.exit_code == 0, done.output
    assert "roas validate shop" in done.output
    assert files_of(shop).keys() - before.keys() == {"roas.yaml"}
    assert before.items() <= files_of(shop).items()

    environment = declared_environment("shop", current_settings())
    assert environment.compose_files == (shop / "compose.yaml",)
    assert environment.project == "shop"
    assert [one.name for one in environment.secrets] == ["CACHE_PASSWORD", "DB_PASSWORD", "DISCORD_TOKEN"]
    services = environment.services
    assert services["web"].probe == HttpProbe(kind="http", port=8000, path="/healthz")
    assert services["web"].dependencies == (DependencySpec(service="cache"), DependencySpec(service="db"))
    assert services["migrate"].stabilisation_seconds == 0
    assert services["db"].probe == PostgresqlProbe(kind="postgresql", user="postgres", password_secret="DB_PASSWORD")
    assert services["cache"].probe == RedisProbe(kind="redis", password_secret="CACHE_PASSWORD")
    assert services["bot"].outside_logins
    assert services["bot"].probe == TcpProbe(kind="tcp", port=9000)


def test_shows_and_writes_no_value_of_a_secret(shop: Path, run: Callable[..., Result]) -> None:
    shown = run("init").output + run("init", "--force", "--json").output + (shop / "roas.yaml").read_text()
    assert PASSWORD not in shown
    assert TOKEN not in shown


def test_json_has_the_fields_of_a_service_as_its_file_does(shop: Path, run: Callable[..., Result]) -> None:
    proposed = json.loads(run("init", "--json").output)["services"]
    (web,) = [one for one in proposed if one["service"] == "web"]
    assert web["spec"]["probe"]["path"] == "/healthz"
    assert [one["service"] for one in web["spec"]["dependencies"]] == ["cache", "db"]


def test_names_a_schema_that_exists(shop: Path, run: Callable[..., Result]) -> None:
    run("init")
    first = (shop / "roas.yaml").read_text().partition("\n")[0]
    schema = Path(first.removeprefix("# yaml-language-server: $schema="))
    assert json.loads((shop / schema).read_text()) == environment_schema()


def test_overwrites_nothing_without_force(shop: Path, run: Callable[..., Result]) -> None:
    run("init")
    file = shop / "roas.yaml"
    file.write_text("# mine\n")
    refused = run("init")
    assert isinstance(refused.exception, EnvironmentFileError)
    assert "--force" in str(refused.exception)
    assert file.read_text() == "# mine\n"
    assert run("init", "--force").exit_code == 0
    assert "compose.yaml" in file.read_text()


def test_adds_no_second_file_of_the_same_environment(shop: Path, run: Callable[..., Result]) -> None:
    (shop / "roas.yml").write_text("# mine\n")
    assert isinstance(run("init", "--force").exception, EnvironmentFileError)


def test_searches_parent_folders_for_the_compose_file(
    shop: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "src/web").mkdir(parents=True)
    monkeypatch.chdir(shop / "src/web")
    assert run("init").exit_code == 0
    assert declared_environment("shop", current_settings()).compose_files == (shop / "compose.yaml",)


def test_a_file_that_was_written_is_found_from_every_folder(
    shop: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("init")
    monkeypatch.chdir(tmp_path)
    assert known_environments(current_settings()) == ("shop",)
    assert declared_environment("shop", current_settings()).project == "shop"


def test_refuses_the_name_of_another_application(
    shop: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run("init")
    other = tmp_path / "other/shop"
    other.mkdir(parents=True)
    (other / "compose.yaml").write_text("services: {cache: {image: redis}}\n")
    monkeypatch.chdir(other)
    refused = run("init")
    assert isinstance(refused.exception, EnvironmentFileError)
    assert str(shop / "roas.yaml") in str(refused.exception)
    assert not (other / "roas.yaml").exists()
    # One that is gone keeps no name.
    (shop / "roas.yaml").unlink()
    assert run("init").exit_code == 0


def test_writes_into_the_folder_of_environments_that_is_set(
    shop: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", str(shop.parent / "environments"))
    assert run("init").exit_code == 0
    assert load_environment("shop", shop.parent / "environments").compose_files == (shop / "compose.yaml",)


def test_takes_a_folder_a_project_and_an_output(shop: Path, run: Callable[..., Result]) -> None:
    output = shop.parent / "elsewhere" / "prod.yaml"
    done = run("init", str(shop), "-p", "shop-prod", "--output", str(output))
    assert done.exit_code == 0, done.output
    environment = read_environment(output)
    assert (environment.name, environment.project) == ("prod", "shop-prod")
    assert f"ROAS_ENVIRONMENTS_DIR={output.parent} roas start prod" in done.output


@pytest.mark.parametrize("output", ["shop.txt", "My Shop.yaml"])
def test_refuses_an_output_that_is_no_environment(output: str, run: Callable[..., Result]) -> None:
    assert isinstance(run("init", "--output", output).exception, BadInputError)


def test_reads_the_files_that_compose_would(shop: Path, run: Callable[..., Result]) -> None:
    (shop / "docker-compose.yml").write_text("services: {old: {image: redis}}\n")
    (shop / "compose.override.yml").write_text("services: {mail: {image: acme/mail, expose: [25]}}\n")
    assert run("init").exit_code == 0
    environment = read_environment(shop / "roas.yaml", "shop")
    assert [path.name for path in environment.compose_files] == ["compose.yaml", "compose.override.yml"]
    # A port alone is weak evidence of what answers there.
    assert environment.services["mail"].probe == TcpProbe(kind="tcp", port=25)
    assert "old" not in environment.services


def test_reads_the_files_and_project_that_dot_env_names(shop: Path, run: Callable[..., Result]) -> None:
    (shop / "other.yaml").write_text("services: {cache: {image: redis}}\n")
    (shop / ".env").write_text("COMPOSE_FILE=other.yaml\nCOMPOSE_PROJECT_NAME=another\n")
    assert run("init").exit_code == 0
    assert list(read_environment(shop / "roas.yaml", "another").services) == ["cache"]


def test_names_services_whose_profiles_are_off(
    shop: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "compose.yaml").write_text(COMPOSE + "  debug: {image: acme/debug, profiles: [tools]}\n")
    assert "their profiles are off: debug" in run("init").output
    monkeypatch.setenv("COMPOSE_PROFILES", "tools")
    assert "profiles are off" not in run("init", "--force").output
    assert read_environment(shop / "roas.yaml", "shop").profiles == ("tools",)


def test_says_that_a_folder_has_no_compose_file(tmp_path: Path, run: Callable[..., Result]) -> None:
    refused = run("init", str(tmp_path))
    assert isinstance(refused.exception, EnvironmentFileError)
    assert "There is no Compose file" in str(refused.exception)


def test_leaves_no_file_where_compose_refuses_the_application(shop: Path, run: Callable[..., Result]) -> None:
    (shop / "compose.yaml").write_text("services: {web: {image: 'acme/web:${TAG:?is required}'}}\n")
    refused = run("init")
    assert isinstance(refused.exception, RoasError)
    assert "TAG" in str(refused.exception)
    assert not (shop / "roas.yaml").exists()
