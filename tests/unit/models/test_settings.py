"""Settings come from the process environment, with a default for each."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.settings import Settings, config_home, current_settings


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_counts_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ROAS_{name.upper()}", "")
    assert getattr(Settings(), name) == Settings.model_fields[name].default


def test_the_settings_of_this_process_follow_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_DATA_DIR", "one")
    first = current_settings()
    assert first.data_dir == Path("one")
    assert current_settings() is first
    monkeypatch.setenv("ROAS_DATA_DIR", "other")
    assert current_settings().data_dir == Path("other")


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and a current folder outside of a checkout; no place is set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("ROAS_DATA_DIR", "ROAS_ENVIRONMENTS_DIR", "ROAS_CONFIG", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_outside_of_a_checkout_data_is_in_the_folder_of_the_user(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert current_settings().data_dir == elsewhere / ".local/share/roas"
    assert current_settings().recovery_dir == elsewhere / ".config/roas/recovery"
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/data")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/srv/config")
    assert current_settings().data_dir == Path("/srv/data/roas")
    assert config_home() == Path("/srv/config/roas")
    monkeypatch.setenv("ROAS_DATA_DIR", "mine")
    assert current_settings().data_dir == Path("mine")


def test_a_relative_folder_of_the_user_counts_as_not_set(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "data")
    assert current_settings().data_dir == elsewhere / ".local/share/roas"


@pytest.mark.usefixtures("elsewhere")
def test_a_checkout_and_a_folder_with_stores_keep_their_data() -> None:
    Path("data").mkdir()
    assert current_settings().data_dir.is_absolute()
    Path("data/deployment_logs.db").touch()
    assert current_settings().data_dir == Path("data")
    Path("data/deployment_logs.db").unlink()
    Path("deployments/environments").mkdir(parents=True)
    assert current_settings().data_dir == Path("data")
    assert current_settings().recovery_dir == Path("deployments/recovery")


def test_a_folder_that_is_set_wins_over_those_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("roas").mkdir()
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", "mine")
    assert current_settings().environments_dir == Path("mine")


@pytest.mark.parametrize("surrogate", [0xD800, 0xDC80, 0xDCFF, 0xDFFF], ids=hex)
def test_bytes_that_are_no_utf_8_are_refused_in_every_text_and_path(surrogate: int) -> None:
    for name in ("asked_by", "data_dir", "ui_url"):
        with pytest.raises(ValidationError, match="UTF-8 text is allowed"):
            Settings(**{name: f"https://ops/{chr(surrogate)}"})


@pytest.mark.parametrize("char", ["\ud7ff", "\ue000", "\U0001f600", "\u00e4", "\t"], ids=ascii)
def test_all_other_characters_are_allowed_in_a_text(char: str) -> None:
    assert Settings(asked_by=f"CI{char}").asked_by == f"CI{char}"


def test_a_variable_whose_bytes_are_no_utf_8_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROAS_ASKED_BY", "CI \udcff")
    with pytest.raises(ValidationError, match="UTF-8 text is allowed"):
        Settings()
