"""A rendered application is cached until one of its sources changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.compose.known_applications import KnownApplications
from adapters.compose.variables import process_environment
from models.compose import Application
from tests.integration.adapters.conftest import ComposeProject

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]

FILES = """\
include: [other.yaml]
services:
  bot:
    image: IMAGE
    command: ["redis-cli", "-a", "${WORD}"]
    healthcheck: {test: ["CMD", "redis-cli", "-a", "${WORD}", "ping"]}
    scale: ${COPIES:-1}
    env_file: [{path: bot.env, required: false}]
    depends_on: [base]
  base: {extends: {file: base.yaml, service: base}, ports: !override ["9000"]}
"""


class Reader:
    """Reads as each process does, and counts how often Compose was asked."""

    def __init__(self, project: ComposeProject, data_dir: Path) -> None:
        self.project, self.data_dir, self.asked = project, data_dir, 0
        (project.folder / "other.yaml").write_text("services: {other: {image: one, scale: 1}}")
        (project.folder / "base.yaml").write_text("services: {base: {image: one, restart: always, ports: ['9001']}}")

    def outline(self, **variables: str) -> Application:
        """As a process that has just begun."""
        return self._read(KnownApplications(self.data_dir).outline, variables)

    def _read(self, read: Callable[..., Application], variables: dict[str, str]) -> Application:
        def render() -> Application:
            self.asked += 1
            return self.project.compose(**variables).render()

        environment = self.project.environment
        return read(environment, process_environment(environment, os.environ | variables), render)

    def changes(self, known: KnownApplications, **variables: str) -> Application:
        """As a process that goes on."""
        return self._read(known.whole, variables)


@pytest.fixture
def reader(make_project: Make, tmp_path: Path) -> Reader:
    return Reader(make_project(FILES), tmp_path / "data")


def test_a_second_process_reads_what_the_first_has_rendered(reader: Reader) -> None:
    assert reader.outline(WORD="first") == reader.outline(WORD="first")
    assert reader.asked == 1


def test_an_outline_judges_like_the_whole_application(reader: Reader) -> None:
    whole, outline = reader.changes(KnownApplications(reader.data_dir)), reader.outline()
    assert list(outline.services) == list(whole.services) == ["base", "bot", "other"]
    for name, declared in whole.services.items():
        kept = outline.services[name]
        assert (kept.depends_on, kept.replicas, kept.restarts) == (
            declared.depends_on, declared.replicas, declared.restarts,
        )  # fmt: skip
        assert (kept.one_shot, kept.awaited) == (declared.one_shot, declared.awaited)
        assert kept.networks == declared.networks
    assert [(one.key, one.name) for one in outline.networks] == [(one.key, one.name) for one in whole.networks]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        pytest.param("compose.yaml", "services: {only: {image: one}}", id="the Compose file"),
        pytest.param(".env", "COPIES=3", id="a .env that was not there"),
        pytest.param("other.yaml", "services: {other: {image: one, scale: 4}}", id="an included file"),
        pytest.param("base.yaml", "services: {base: {image: one, restart: 'no'}}", id="an extended file"),
    ],
)
def test_a_changed_file_is_read_anew(reader: Reader, file: str, text: str) -> None:
    known = KnownApplications(reader.data_dir)
    before = reader.outline(), reader.changes(known)
    (reader.project.folder / file).write_text(text)
    after = reader.outline(), reader.changes(known)
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert reader.asked == 4


def test_an_env_file_that_appears_is_read_anew(reader: Reader) -> None:
    known = KnownApplications(reader.data_dir)
    assert reader.changes(known).services["bot"].environment_names == ()
    (reader.project.folder / "bot.env").write_text("COLOUR=blue")
    assert reader.changes(known).services["bot"].environment_names == ("COLOUR",)


def test_a_changed_variable_is_read_anew_and_an_unused_one_is_not(reader: Reader) -> None:
    assert reader.outline(COPIES="2", UNRELATED="a").services["bot"].replicas == 2
    assert reader.outline(COPIES="2", UNRELATED="b").services["bot"].replicas == 2
    assert reader.asked == 1
    assert reader.outline(COPIES="5").services["bot"].replicas == 5


def test_another_project_or_profile_of_the_same_name_is_read_anew(make_project: Make, tmp_path: Path) -> None:
    text = "services: {bot: {image: IMAGE}, debugger: {image: IMAGE, profiles: [debug]}}"
    plain, debug = (Reader(make_project(text, profiles=profiles), tmp_path / "data") for profiles in ([], ["debug"]))
    assert (list(plain.outline().services), list(debug.outline().services)) == (["bot"], ["bot", "debugger"])


def test_no_secret_and_no_command_is_in_what_is_kept(reader: Reader) -> None:
    (reader.project.folder / "bot.env").write_text("COLOUR=hunter-two")
    reader.outline(WORD="correct-horse")
    kept = [file for file in reader.data_dir.rglob("*.json") if file.is_file()]
    assert len(kept) == 1
    text = kept[0].read_text()
    assert "bot" in text
    assert not [word for word in ("correct-horse", "hunter-two", "redis-cli", "COLOUR") if word in text]


def test_what_only_compose_can_find_is_rendered_every_time(reader: Reader) -> None:
    (reader.project.folder / "compose.yaml").write_text("include: ['${WHERE}.yaml']")
    for copies in (1, 2):
        (reader.project.folder / "other.yaml").write_text(f"services: {{other: {{image: one, scale: {copies}}}}}")
        assert reader.outline(WHERE="other").services["other"].replicas == copies


def test_a_damaged_outline_is_made_anew(reader: Reader) -> None:
    before = reader.outline()
    (kept,) = reader.data_dir.rglob("*.json")
    kept.write_text(kept.read_text()[:-20])
    assert reader.outline() == before
    assert reader.outline() == before
    assert reader.asked == 2


@pytest.mark.parametrize("lost", ["data", "data/outlines"])
def test_where_nothing_can_be_kept_it_is_rendered_every_time(reader: Reader, lost: str) -> None:
    file = reader.data_dir.parent / lost
    file.parent.mkdir(exist_ok=True)
    file.write_text("a file where a folder belongs")
    assert reader.outline() == reader.outline()
    assert reader.asked == 2
