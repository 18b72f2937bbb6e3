"""Settings come from the process environment, with a default for each."""

from pathlib import Path

import pytest

from models.settings import Settings, current_settings


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


def test_environments_are_in_the_first_folder_that_exists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROAS_ENVIRONMENTS_DIR", raising=False)
    assert current_settings().environments_dir == Path("deployments/environments")
    Path("roas").mkdir()
    assert current_settings().environments_dir == Path("roas")
    Path("deployments/environments").mkdir(parents=True)
    assert current_settings().environments_dir == Path("deployments/environments")


def test_a_folder_that_is_set_wins_over_those_that_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("roas").mkdir()
    monkeypatch.setenv("ROAS_ENVIRONMENTS_DIR", "mine")
    assert current_settings().environments_dir == Path("mine")
