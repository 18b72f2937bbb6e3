"""What Compose was asked ahead counts only for the same files and variables."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.compose.ahead import ComposeAhead
from adapters.compose.known_applications import KnownApplications
from adapters.compose.variables import process_environment
from models.failures import ComposeError
from tests.integration.adapters.conftest import ComposeProject

pytestmark = pytest.mark.engine
Make = Callable[..., ComposeProject]

FILES = 'services: {a: {image: "one:${WORD:-1}", env_file: [{path: a.env, required: false}]}}'


def variables(project: ComposeProject, **more: str) -> dict[str, str]:
    return process_environment(project.environment, os.environ | more)


def asked_ahead(project: ComposeProject, data_dir: Path) -> ComposeAhead:
    return ComposeAhead(project.environment, variables(project), KnownApplications(data_dir))


def test_the_answers_are_those_of_compose(make_project: Make, tmp_path: Path) -> None:
    project = make_project(FILES)
    ahead, compose = asked_ahead(project, tmp_path), project.compose()

    assert ahead.is_about(project.environment, variables(project))
    assert ahead.render() == compose.render()
    assert ahead.variables() == compose.variables()
    assert ahead.version() == compose.version()


@pytest.mark.parametrize("file", ["compose.yaml", "a.env", ".env"])
def test_a_changed_or_new_file_makes_them_old(make_project: Make, tmp_path: Path, file: str) -> None:
    project = make_project(FILES)
    ahead = asked_ahead(project, tmp_path)
    path = project.folder / file
    path.write_text((path.read_text() if path.exists() else "") + "# changed\n")

    assert not ahead.is_about(project.environment, variables(project))


def test_another_variable_makes_them_old(make_project: Make, tmp_path: Path) -> None:
    project = make_project(FILES)
    ahead = asked_ahead(project, tmp_path)

    assert not ahead.is_about(project.environment, variables(project, WORD="2"))


def test_another_environment_was_not_asked_about(make_project: Make, tmp_path: Path) -> None:
    project = make_project(FILES)
    ahead = asked_ahead(project, tmp_path)
    other = project.environment.model_copy(update={"profiles": ("more",)})

    assert not ahead.is_about(other, variables(project))


def test_sources_that_only_compose_finds_are_never_the_same(make_project: Make, tmp_path: Path) -> None:
    project = make_project("include: ['${WHERE:-other.yaml}']\nservices: {a: {image: one}}")
    (project.folder / "other.yaml").write_text("services: {b: {image: two}}")

    assert not asked_ahead(project, tmp_path).is_about(project.environment, variables(project))


def test_what_compose_refuses_is_asked_again_and_refused(make_project: Make, tmp_path: Path) -> None:
    project = make_project("services: {a: {image: [}}")

    with pytest.raises(ComposeError):
        asked_ahead(project, tmp_path).render()
