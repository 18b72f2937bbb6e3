"""Environments are found near the current folder, in the data folder's list and in the user's configuration."""

import os
from pathlib import Path

import pytest

from adapters.config.environment_files import (
    environment_files,
    known_environments,
    meant_environment,
    name_of,
    nearest_file,
    remember_environment,
)
from adapters.config.environments import declared_environment
from models.failures import EnvironmentFileError
from models.settings import Settings, current_settings

TEXT = "project: {0}\ncompose_files: [compose.yaml]\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an application, in which commands are called, with a home of its own."""
    folder = tmp_path / "home/shop"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ROAS_DATA_DIR", "ROAS_ENVIRONMENTS_DIR", "ROAS_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def write(file: Path, project: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TEXT.format(project))
    return file


def test_the_nearer_of_two_with_one_name_counts(shop: Path, tmp_path: Path) -> None:
    own = write(shop / "roas.yaml", "shop")
    write(tmp_path / "home/.config/roas/shop.yaml", "another")
    far = write(tmp_path / "home/.config/roas/mail.yaml", "mail")
    beside = write(shop / "roas/prod.yaml", "prod")
    assert environment_files(current_settings()) == {"shop": own, "mail": far, "prod": beside}
    assert declared_environment("shop", current_settings()).compose_files == (shop / "compose.yaml",)


def test_a_parent_folder_is_searched_up_to_the_repository(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(shop / "roas.yaml", "shop")
    inner = shop / "src/web"
    inner.mkdir(parents=True)
    assert nearest_file(inner) == own
    (shop / "src/.git").mkdir()
    assert nearest_file(inner) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_of_another_user_counts_in_the_current_folder_alone(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(shop / "roas.yaml", "shop")
    os.chown(own, 12345, -1)
    (shop / "src").mkdir()
    assert nearest_file(shop) == own
    assert nearest_file(shop / "src") is None
    monkeypatch.setenv("SUDO_UID", "12345")
    assert nearest_file(shop / "src") == own


def test_one_that_was_started_is_found_from_every_folder(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = write(shop / "roas.yaml", "shop")
    beside = write(shop / "roas/prod.yaml", "another")
    for name in ("shop", "prod"):
        remember_environment(name, current_settings())
    monkeypatch.chdir(tmp_path)
    assert environment_files(current_settings()) == {"shop": own, "prod": beside}
    assert declared_environment("prod", current_settings()).project == "another"
    # It is known by the name that it has now.
    own.write_text("name: store\n" + TEXT.format("shop"))
    assert known_environments(current_settings()) == ("prod", "store")
    own.unlink()
    assert known_environments(current_settings()) == ("prod",)


def test_a_name_that_another_file_has_is_refused(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = write(shop / "roas.yaml", "shop")
    remember_environment("shop", current_settings())
    remember_environment("shop", current_settings())
    other = write(tmp_path / "home/other/roas.yaml", "shop")
    monkeypatch.chdir(other.parent)
    with pytest.raises(EnvironmentFileError, match=str(own)):
        remember_environment("shop", current_settings())


def test_the_files_of_one_chosen_folder_are_all_there_are(shop: Path, tmp_path: Path) -> None:
    write(shop / "roas.yaml", "shop")
    settings = Settings(environments_dir=tmp_path / "chosen")
    write(tmp_path / "chosen/roas.yaml", "other")
    assert known_environments(settings) == ("roas",)
    remember_environment("roas", settings)
    assert not settings.data_dir.exists()
    assert meant_environment(settings) is None


def test_a_file_or_a_folder_that_is_configured_wins(shop: Path, tmp_path: Path) -> None:
    write(shop / "roas.yaml", "shop")
    named = write(tmp_path / "ops.yaml", "ops")
    named.write_text("name: mail\n" + TEXT.format("ops"))
    settings = Settings(config=named, environments_dir=shop)
    assert environment_files(settings) == {"mail": named}
    assert meant_environment(settings) == ("mail", named)
    assert declared_environment("mail", settings).project == "ops"
    folder = Settings(config=tmp_path / "home/shop")
    write(shop / "mail.yaml", "mail")
    assert known_environments(folder) == ("mail", "shop")
    with pytest.raises(EnvironmentFileError, match="does not exist"):
        known_environments(Settings(config=tmp_path / "none"))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("name: store\nproject: shop\n", "store"),
        ("project: shop\nname: 'store'  # ours\n", "store"),
        ('project: "shop"\n', "shop"),
        ("services:\n  name: store\n", "shop-2"),
        ("name: NOT ONE\n", "shop-2"),
    ],
)
def test_the_name_is_that_of_the_file_else_of_the_project_else_of_the_folder(
    text: str, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "Shop-2/roas.yaml"
    file.parent.mkdir()
    file.write_text(text)
    assert name_of(file) == name


def test_where_there_is_none_the_error_names_the_places(shop: Path) -> None:
    with pytest.raises(EnvironmentFileError) as refused:
        declared_environment("shop", current_settings())
    for place in (shop, shop.parent / ".local/share/roas/environments", shop.parent / ".config/roas"):
        assert str(place) in str(refused.value)
    assert "roas init" in str(refused.value)
