"""An open environment: what of its files is read once, what is read again, and what nothing shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.environments import Environment
from models.failures import EnvironmentFileError
from tasks.runtime.project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: web, env_file: [web.env]}}\n")
    (tmp_path / "web.env").write_text("DB_PASSWORD=first-of-web\n")
    (tmp_path / "token").write_text("first-token")
    return Project(
        Environment.model_validate(
            {
                "name": "dev", "project": "shop", "compose_files": [tmp_path / "compose.yaml"],
                "engine": f"unix://{tmp_path}/no.sock", "secrets": [{"name": "TOKEN", "file": tmp_path / "token"}],
            }
        )
    )  # fmt: skip


def test_variables_and_secrets_stay_until_a_refresh(project: Project, tmp_path: Path) -> None:
    assert project.secrets() == {"TOKEN": "first-token"}
    assert project.variables()["TOKEN"] == "first-token"

    (tmp_path / "token").write_text("second-token-that-is-longer")

    assert project.secrets()["TOKEN"] == project.variables()["TOKEN"] == "first-token"
    project.refresh()
    assert project.secrets()["TOKEN"] == project.variables()["TOKEN"] == "second-token-that-is-longer"


def test_the_engine_conceals_a_changed_secret_after_a_refresh_and_the_former_one_still(
    project: Project, tmp_path: Path
) -> None:
    assert project.engine.redact("first-token") != "first-token"

    (tmp_path / "token").write_text("second-token-that-is-longer")
    project.refresh()

    text = project.engine.redact("first-token, then second-token-that-is-longer")
    assert "token" not in text


@pytest.mark.parametrize("used", [Project.redactor, Project.compose])
def test_redactor_and_compose_conceal_what_the_files_hold_now(project: Project, tmp_path: Path, used: object) -> None:
    engine = project.engine

    (tmp_path / "web.env").write_text("DB_PASSWORD=second-of-web-that-is-longer\n")
    assert callable(used)
    used(project)

    assert "second" not in engine.redact("second-of-web-that-is-longer")
    assert "second" not in project.redactor().text("second-of-web-that-is-longer")


def test_projects_of_one_engine_share_its_client_and_the_secrets_it_knows(project: Project, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("services: {web: {image: web, environment: {DB_PASSWORD: of-the-other}}}\n")
    files = {"compose_files": (tmp_path / "other.yaml",), "name": "other", "secrets": ()}
    other = Project(project.environment.model_copy(update=files))

    assert other.engine is project.engine
    assert "other" not in project.redactor().text("of-the-other")


def test_its_representation_has_no_secret(project: Project) -> None:
    assert project.engine.concealed_values
    assert "TOKEN" in project.variables()

    assert repr(project) == "Project('dev')"


def test_it_opens_where_a_file_is_unusable_and_says_so_at_the_first_use(project: Project, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")

    opened = Project(project.environment)

    with pytest.raises(EnvironmentFileError):
        _ = opened.engine
