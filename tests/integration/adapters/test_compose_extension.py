"""Environments whose Compose file says what a roas.yaml would: `x-roas`, and labels of services."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.config.environment_edits import add_channel
from adapters.config.environment_files import environment_files
from adapters.config.environments import declared_environment, environment_for_compose_files, read_environment
from adapters.config.needs import declared_needs
from models.environments import HttpProbe, PostgresqlProbe, TcpProbe
from models.failures import EnvironmentFileError
from models.settings import Settings

SHOP = """\
name: shop
x-roas:
  start_timeout_seconds: 90
  services:
    web: {stabilisation_seconds: 3}
services:
  web:
    image: shop/web
    depends_on: !override [db]
    labels:
      roas.probe: http://:8080/health?full=1
      roas.order: db, cache
    x-roas:
      stabilisation_seconds: 9
      limits: {memory_percent: 80}
  cache:
    image: redis
    labels: ["roas.required=false", "roas.probe={kind: tcp, port: 6379}", "com.example.owner=us"]
  db:
    image: postgres
    labels: {roas.probe: "postgresql://shop@:5432/orders"}
"""


@pytest.fixture(autouse=True)
def _quiet_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("DOCKER_HOST", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES", "COMPOSE_FILE", "COMPOSE_ENV_FILES")
    for name in (*names, "ROAS_ENVIRONMENTS_DIR", "ROAS_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str = SHOP, name: str = "compose.yaml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_a_compose_file_alone_is_an_environment(tmp_path: Path) -> None:
    environment = read_environment(written(tmp_path))
    assert (environment.name, environment.project) == ("shop", "shop")
    assert environment.compose_files == (tmp_path / "compose.yaml",)
    assert environment.start_timeout_seconds == 90
    web, cache, db = (environment.services[name] for name in ("web", "cache", "db"))
    assert web.probe == HttpProbe(kind="http", port=8080, path="/health?full=1")
    assert [need.service for need in web.dependencies] == ["db", "cache"]
    assert web.limits.memory_percent == 80
    assert (cache.required, cache.probe) == (False, TcpProbe(kind="tcp", port=6379))
    assert db.probe == PostgresqlProbe(kind="postgresql", port=5432, user="shop", database="orders")


def test_what_stands_at_the_top_wins_over_a_service_and_that_over_its_labels(tmp_path: Path) -> None:
    text = SHOP.replace("      limits:", "      dependencies: [{service: cache}]\n      limits:")
    web = read_environment(written(tmp_path, text)).services["web"]
    assert web.stabilisation_seconds == 3
    assert [need.service for need in web.dependencies] == ["cache"]


def test_a_roas_yaml_wins_field_by_field(tmp_path: Path) -> None:
    written(tmp_path)
    own = "project: shop\ncompose_files: [compose.yaml]\nservices: {web: {probe: {kind: tcp, port: 80}}}\n"
    environment = read_environment(written(tmp_path, own, "roas.yaml"), "shop")
    assert environment.start_timeout_seconds == 90
    assert environment.services["web"].probe == TcpProbe(kind="tcp", port=80)
    assert environment.services["web"].stabilisation_seconds == 3
    assert environment.services["cache"].required is False


def test_of_several_compose_files_the_last_wins(tmp_path: Path) -> None:
    written(tmp_path)
    more = "x-roas: {start_timeout_seconds: 30}\nservices: {db: {labels: {roas.required: 'false'}}}\n"
    written(tmp_path, more, "compose.override.yaml")
    environment = read_environment(tmp_path / "compose.yaml")
    assert environment.compose_files == (tmp_path / "compose.yaml", tmp_path / "compose.override.yaml")
    assert environment.start_timeout_seconds == 30
    assert environment.services["db"].required is False
    assert environment.services["db"].probe is not None


def test_needs_of_others_stand_in_the_file_of_the_environment(tmp_path: Path) -> None:
    text = SHOP.replace("x-roas:\n  start", "x-roas:\n  needs: [data/db]\n  start")
    compose = written(tmp_path, text)
    assert read_environment(compose).needs == ("data/db",)
    assert declared_needs(Settings(config=compose)) == {"shop": ("data/db",)}
    own = written(tmp_path, "project: shop\ncompose_files: [compose.yaml]\n", "roas.yaml")
    with pytest.raises(EnvironmentFileError, match=rf"compose\.yaml:3: x-roas: needs .* Move it to {own}\."):
        read_environment(own, "shop")


def test_files_given_by_hand_say_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPOSE_ENV_FILES", "one.env,two.env")
    environment = environment_for_compose_files([written(tmp_path)], cwd=tmp_path)
    assert environment.services["cache"].required is False
    assert environment.env_files == (tmp_path / "one.env", tmp_path / "two.env")


def test_it_is_found_from_a_folder_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shop"
    file = written(folder)
    (folder / "below").mkdir()
    monkeypatch.chdir(folder / "below")
    settings = Settings(data_dir=tmp_path / "data")
    assert environment_files(settings)["shop"] == file
    assert declared_environment("shop", settings).services["cache"].required is False
    written(folder, "project: shop\ncompose_files: [compose.yaml]\n", "roas.yaml")
    assert environment_files(settings)["shop"] == folder / "roas.yaml"


def test_a_compose_file_that_does_not_say_so_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, SHOP.replace("x-roas:\n  start_timeout_seconds: 90", "x-other:\n  start: 90"))
    monkeypatch.chdir(tmp_path)
    assert "shop" not in environment_files(Settings(data_dir=tmp_path / "data"))


def test_a_project_name_beside_it_is_taken(tmp_path: Path) -> None:
    file = written(tmp_path / "my-app", SHOP.replace("name: shop\n", ""))
    assert (read_environment(file).name, read_environment(file).project) == ("my-app", "my-app")
    (file.parent / ".env").write_text("COMPOSE_PROJECT_NAME=other\n")
    assert (read_environment(file).name, read_environment(file).project) == ("my-app", "other")


def test_a_checkout_says_nothing_of_its_environment(tmp_path: Path) -> None:
    written(tmp_path)
    own = "project: shop\ncompose_files: [compose.yaml]\nsource: {repository: 'https://git.example.com/shop.git'}\n"
    assert read_environment(written(tmp_path, own, "roas.yaml"), "shop").services == {}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("start_timeout_seconds: 90", "start_timeout: 90", ":3: start_timeout: there is no such field."),
        ("start_timeout_seconds: 90", "name: other", ":3: x-roas: name does not belong here. Only a roas.yaml"),
        ("web: {stabilisation_seconds: 3}", "web: {stabilisation_seconds: -3}", ":5: services.web.stabilisation_sec"),
        ("limits: {memory_percent: 80}", "limits: {memory: 80}", ":15: services.web.limits.memory: there is no such"),
        ("http://:8080/health?full=1", "http://:0x8080/", ":11: roas.probe: no probe can be read from this. Write an"),
        ("http://:8080/health?full=1", "ldap://:389", ":11: services.web.probe"),
        ("http://:8080/health?full=1", "redis://x:word@:6379", ":11: roas.probe: no probe can be read"),
        ("kind: tcp, port: 6379", "kind: tcp, prot: 6379", ":18: services.cache.probe.p"),
        ("roas.required=false", "roas.required=perhaps", ":18: services.cache.required: "),
        ("roas.order: db, cache", "roas.ordre: db", ":12: roas.ordre: there is no such label. Allowed: roas.order, "),
        ("roas.order: db, cache", "roas.order: 'DB, '", ":12: services.web.dependencies"),
        ("\n      stabilisation_seconds: 9", " yes\n    x-more:", ":13: x-roas: it is a mapping of fields. Write them"),
        ("\n    web: {stabilisation_seconds: 3}", " 3", ":4: x-roas: services is a mapping of services."),
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in SHOP
    written(tmp_path, SHOP.replace(old, new))
    own = written(tmp_path, "project: shop\ncompose_files: [compose.yaml]\n", "roas.yaml")
    for file in (tmp_path / "compose.yaml", own):
        with pytest.raises(EnvironmentFileError) as caught:
            read_environment(file, "shop")
        assert f"{tmp_path / 'compose.yaml'}{said}" in str(caught.value)
        assert "word" not in str(caught.value)


def test_a_mistake_of_the_roas_yaml_is_reported_there(tmp_path: Path) -> None:
    written(tmp_path)
    own = "project: shop\ncompose_files: [compose.yaml]\nservices: {web: {required: maybe}}\n"
    with pytest.raises(EnvironmentFileError, match=r"roas\.yaml:3: services\.web\.required: "):
        read_environment(written(tmp_path, own, "roas.yaml"), "shop")


def test_a_channel_is_not_written_into_a_compose_file(tmp_path: Path) -> None:
    file = written(tmp_path)
    with pytest.raises(EnvironmentFileError, match="Write the line there yourself"):
        add_channel(file, "shop", "roas-ntfy/shop")
    assert file.read_text() == SHOP


def test_documents_of_one_file_count_like_files_in_any_of_them(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        f"{SHOP}---\nx-roas: {{start_timeout_seconds: 30}}\nservices: {{db: {{labels: {{roas.order: web}}}}}}\n",
    )
    environment = read_environment(file)
    assert environment.start_timeout_seconds == 30
    assert [one.service for one in environment.services["db"].dependencies] == ["web"]
    assert (
        environment.services["web"].stabilisation_seconds
        == read_environment(written(tmp_path / "one")).services["web"].stabilisation_seconds
    )

    only = written(tmp_path, "name: shop\nservices: {web: {image: a}}\n---\nx-roas: {start_timeout_seconds: 30}\n")
    assert read_environment(only).start_timeout_seconds == 30
    wrong = written(tmp_path, "services: {web: {image: a}}\n---\nx-roas:\n  start_timeout: 30\n")
    with pytest.raises(EnvironmentFileError, match=r"compose\.yaml:4: .*start_timeout"):
        read_environment(wrong)
