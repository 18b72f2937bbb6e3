"""Environment files: their values, and reports of their mistakes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from adapters.config.environment_names import environment_names
from adapters.config.environments import (
    environment_for_compose_files,
    load_environment,
    read_environment,
)
from models.environments import HttpProbe
from models.failures import EnvironmentFileError

GOOD = """\
project: shop
compose_files: [../compose.yaml]
env_files: [shop.env]
variables: [SHOP_TOKEN]
secrets:
  - {name: REDIS_PASSWORD, file: secrets/redis}
services:
  bot:
    probe: {kind: http, port: 8080, path: /healthz}
  redis:
    probe: {kind: redis, password_secret: REDIS_PASSWORD}
"""

DEFAULT_ENGINE = "unix:///var/run/docker.sock"


@pytest.fixture(autouse=True)
def _quiet_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"):
        monkeypatch.delenv(name, raising=False)


def written(folder: Path, text: str, name: str = "dev") -> Path:
    (folder / f"{name}.yaml").write_text(text)
    return folder


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(EnvironmentFileError) as caught:
        load_environment("dev", written(folder, text))
    return str(caught.value)


def test_a_file_becomes_an_environment_named_after_it(tmp_path: Path) -> None:
    environment = load_environment("dev", written(tmp_path, GOOD))
    assert environment.name == "dev"
    assert environment.services["bot"].probe == HttpProbe(kind="http", port=8080, path="/healthz")


def test_relative_paths_start_at_the_files_own_folder(tmp_path: Path) -> None:
    environment = load_environment("dev", written(tmp_path, GOOD))
    assert environment.compose_files == (tmp_path.parent / "compose.yaml",)
    assert environment.env_files == (tmp_path / "shop.env",)
    assert environment.secrets[0].file == tmp_path / "secrets/redis"


def test_docker_host_names_the_engine_unless_the_file_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://proxy:2375")
    assert load_environment("dev", written(tmp_path, GOOD)).engine == "tcp://proxy:2375"
    own = GOOD + "engine: unix:///run/own.sock\n"
    assert load_environment("dev", written(tmp_path, own)).engine == "unix:///run/own.sock"


def _keep_context(folder: Path, name: str, address: str, *, with_certificates: bool = False) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    meta = folder / "contexts" / "meta" / digest
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": address}}}))
    if with_certificates:
        (folder / "contexts" / "tls" / digest / "docker").mkdir(parents=True)


def test_a_docker_context_names_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    _keep_context(tmp_path / "docker", "away", "ssh://me@away")
    _keep_context(tmp_path / "docker", "sealed", "tcp://away:2376", with_certificates=True)
    _keep_context(tmp_path / "docker", "odd", "npipe:////./pipe/docker")
    assert load_environment("dev", written(tmp_path, GOOD + "context: away\n")).engine == "ssh://me@away"
    monkeypatch.setenv("DOCKER_CONTEXT", "away")
    assert load_environment("dev", written(tmp_path, GOOD)).engine == "ssh://me@away"
    assert load_environment("dev", written(tmp_path, GOOD + "context: default\n")).engine == DEFAULT_ENGINE
    monkeypatch.setenv("DOCKER_HOST", "tcp://proxy:2375")
    assert load_environment("dev", written(tmp_path, GOOD)).engine == "tcp://proxy:2375"
    for line, said in (
        ("context: nowhere", "There is no Docker context 'nowhere' in "),
        ("context: sealed", "has certificates, which roas does not use. Name the engine by ssh"),
        ("context: odd", "engine: not a usable value; allowed are addresses like"),
        (
            f"context: away\nengine: {DEFAULT_ENGINE}",
            "dev.yaml:12: context: engine is given, too. Leave one of the two",
        ),
        ("context: [away]", "dev.yaml:12: context: Input should be a valid string"),
    ):
        assert said in refusal(tmp_path, f"{GOOD}{line}\n"), line


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("project: shop", "project: Shop!"), 1, "project: not a usable value; allowed are small letters"),
        (("port: 8080", "port: 99999"), 9, "services.bot.probe.port: Input should be less than or equal to 65535"),
        (("port: 8080", "prt: 8080"), 9, "Did you mean port?"),
        (("kind: http", "kind: htp"), 9, "services.bot.probe: "),
        (("  bot:", "  bot:\n    probes: {}"), 9, "Allowed here: dependencies, drain_seconds, limits, order,"),
        (("variables: [SHOP_TOKEN]", "variables: [SHOP-TOKEN]"), 4, "'SHOP-TOKEN' is not the name of a variable"),
        (("password_secret: REDIS_PASSWORD", "password_secret: OTHER"), 1, "which is not in secrets"),
        (("project: shop", "project: shop\nproject: cart"), 2, "'project' is given twice"),
        (("project: shop", "project: [shop"), 2, "expected"),
        (("project: shop", "name: prod\nproject: shop"), 1, "name is 'prod', but the file is named 'dev'"),
        (("project: shop\n", ""), 1, "project: this field is required."),
    ],
)
def test_a_mistake_is_reported_with_its_line_its_field_and_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], line: int, words: str
) -> None:
    said = refusal(tmp_path, GOOD.replace(*change))
    assert f"dev.yaml:{line}:" in said
    assert words in said


def test_all_mistakes_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("port: 8080", "port: 0").replace("project: shop", "project: S"))
    assert len(said.splitlines()) == 2


def test_a_value_put_in_the_wrong_place_is_never_repeated(tmp_path: Path) -> None:
    said = refusal(tmp_path, GOOD.replace("file: secrets/redis", "value: hunter2"))
    assert "secrets.0.value" in said
    assert "hunter2" not in said


@pytest.mark.parametrize("text", ["", "- a\n", "just words\n"])
def test_a_file_that_is_no_mapping_is_reported_what_it_may_hold(tmp_path: Path, text: str) -> None:
    assert "compose_files" in refusal(tmp_path, text)


def test_an_unknown_environment_is_reported_the_nearest_name(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "prod")
    with pytest.raises(EnvironmentFileError, match="Did you mean prod"):
        load_environment("prd", tmp_path)


@pytest.mark.parametrize("name", ["../dev", "/etc/passwd", "Dev", ""])
def test_a_name_never_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    written(tmp_path, GOOD)
    with pytest.raises(EnvironmentFileError, match="There is no environment"):
        load_environment(name, inner)


def test_the_names_of_a_folder_are_sorted(tmp_path: Path) -> None:
    written(tmp_path, GOOD, "prod")
    written(tmp_path, GOOD, "dev")
    (tmp_path / "notes.txt").write_text("no environment")
    assert environment_names(tmp_path) == ("dev", "prod")
    assert environment_names(tmp_path / "missing") == ()


def compose_file(folder: Path, text: str = "services: {}\n") -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "compose.yaml"
    file.write_text(text)
    return file


def test_bare_compose_files_take_their_projects_name_as_compose_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = compose_file(tmp_path / "My App", "services: {}\n")
    assert environment_for_compose_files([file], cwd=tmp_path).project == "myapp"
    file.write_text("name: shop\nservices: {}\n")
    assert environment_for_compose_files([file], cwd=tmp_path).project == "shop"
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "told")
    assert environment_for_compose_files([file], cwd=tmp_path).project == "told"
    assert environment_for_compose_files([file], "given", cwd=tmp_path).project == "given"


def test_bare_compose_files_are_found_from_the_current_folder(tmp_path: Path) -> None:
    file = compose_file(tmp_path / "app")
    found = environment_for_compose_files([Path("app/compose.yaml")], "app", cwd=tmp_path)
    assert found.compose_files == (file,)


def test_a_missing_compose_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFileError, match=r"other\.yaml does not exist"):
        environment_for_compose_files([Path("other.yaml")], cwd=tmp_path)


def test_a_project_name_that_compose_would_refuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFileError, match="-p NAME"):
        environment_for_compose_files([compose_file(tmp_path)], "Not A Name", cwd=tmp_path)


def test_a_file_that_is_a_fifo_a_device_or_too_large_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "dev.yaml"
    os.mkfifo(file)
    with pytest.raises(EnvironmentFileError, match="no regular file"):
        read_environment(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(EnvironmentFileError, match="no regular file"):
        read_environment(file)
    file.unlink()
    file.write_text("project: shop\n" + "# padding\n" * 350_000)
    with pytest.raises(EnvironmentFileError, match=r"larger than 1,048,576 bytes") as caught:
        read_environment(file)
    assert "\n" not in str(caught.value)


ALIASES = "".join(f"v{number}: &v{number} [{', '.join([f'*v{number - 1}'] * 10)}]\n" for number in range(1, 12))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("v0: &v0 [x]\n" + ALIASES, "more than 100,000 values", id="aliases that double"),
        pytest.param("v0: &v0 {x: y}\n" + ALIASES.replace("[*", "{<<: [*").replace("]", "]}"), "values", id="merges"),
        pytest.param("v0: &v0 [*v0]\n", "within what it names", id="an alias of itself"),
        pytest.param(
            "v0: &v0 [x]\n" + "".join(f"v{one}: &v{one} [*v{one - 1}]\n" for one in range(1, 2000)),
            "100 levels deep",
            id="depth by aliases",
        ),
        pytest.param("v: " + "[" * 3000 + "]" * 3000, "depth", id="3,000 nested lists"),
        pytest.param("v: " + "{a: " * 500 + "}" * 500, "100 levels deep", id="500 nested mappings"),
        pytest.param("\n".join(f"{' ' * one}v:" for one in range(1200)), "100 levels deep", id="1,200 nested blocks"),
        pytest.param("project: shop\0\n", "control characters", id="NUL"),
        pytest.param("v: 2026-99-99\n", "cannot be read as what", id="no such day"),
        pytest.param(f"v: {'9' * 5000}\n", "cannot be read as what", id="a number of 5,000 digits"),
        pytest.param("v: !!int x\n", "cannot be read as what", id="a wrong tag"),
        pytest.param("v: !!timestamp x\n", "cannot be read as what", id="no timestamp"),
        pytest.param("? [a]\n: b\n", "unhashable", id="a list as key"),
        pytest.param("v: *none\n", "undefined alias", id="an alias of nothing"),
        pytest.param("- a\n- b\n", "mapping of fields", id="a list"),
        pytest.param("a: b\n---\nc: d\n", "document", id="two documents"),
    ],
)
def test_hostile_yaml_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    words = refusal(tmp_path, text)
    assert said in words
    assert "\n" not in words
    assert str(tmp_path / "dev.yaml") in words


def test_anchors_aliases_and_merges_are_understood(tmp_path: Path) -> None:
    text = GOOD + "  web: &base\n    probe: {kind: http, port: 80, path: /}\n  api:\n    <<: *base\n"
    environment = load_environment("dev", written(tmp_path, text))
    assert environment.services["api"] == environment.services["web"]


@pytest.mark.parametrize("text", ["name: x\0", "name: " + "[" * 3000, "v0: &v0 [x]\n" + ALIASES + "name: x\n"])
def test_a_hostile_compose_file_gives_no_name_and_is_left_to_compose(tmp_path: Path, text: str) -> None:
    (tmp_path / "compose.yaml").write_text(text)
    environment = environment_for_compose_files([Path("compose.yaml")], "given", cwd=tmp_path)
    assert environment.name == "given"
    made = environment_for_compose_files([Path("compose.yaml")], cwd=tmp_path)
    assert made.name == made.project != "x"


def test_the_name_in_a_compose_file_with_tags_of_compose_is_found(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("name: shop\nservices: {web: {ports: !reset []}}\n")
    assert environment_for_compose_files([Path("compose.yaml")], cwd=tmp_path).name == "shop"


def test_of_very_many_mistakes_the_first_are_shown_and_the_others_counted(tmp_path: Path) -> None:
    words = refusal(tmp_path, GOOD + "".join(f"  s{number}: {{nonsense: 1}}\n" for number in range(10_000)))
    assert len(words.splitlines()) == 21
    assert "9980 more mistakes" in words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('compose_files: ["a\\0b.yaml"]', "compose_files.0: a path is UTF-8 text without NUL"),
        ("compose_files: ['~nosuchuser/c.yaml']", "names the home of a user who is not there"),
        ("compose_files: [c.yaml]\nengine: 'tcp://[::1'", "engine: no host and port can be read"),
        ("compose_files: [c.yaml]\nengine: 'tcp://host:99999'", "engine: no host and port can be read"),
    ],
)
def test_a_path_or_an_address_that_cannot_be_one_is_refused(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "odd.yaml").write_text(f"project: p\n{line}\n")

    with pytest.raises(EnvironmentFileError, match=said):
        load_environment("odd", tmp_path)


@pytest.mark.parametrize("path", ["~nosuchuser/c.yaml", "a" * 300, "loop"])
def test_a_compose_file_that_cannot_be_looked_up_is_refused_in_one_line(tmp_path: Path, path: str) -> None:
    (tmp_path / "loop").symlink_to("loop")

    with pytest.raises(EnvironmentFileError) as caught:
        environment_for_compose_files([Path(path)], cwd=tmp_path)

    assert "\n" not in str(caught.value)


def test_a_folder_of_environments_whose_name_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFileError, match="ROAS_ENVIRONMENTS_DIR"):
        load_environment("dev", tmp_path / ("a" * 300))


def test_an_address_of_the_engine_that_cannot_be_one_names_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.yaml").write_text("services: {a: {image: x}}\n")
    monkeypatch.setenv("DOCKER_HOST", "tcp://[::1")

    with pytest.raises(EnvironmentFileError, match="DOCKER_HOST cannot be used"):
        environment_for_compose_files([Path("c.yaml")], cwd=tmp_path)
