"""In the folder of a roas.yaml, commands take its environment where none is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import roas
from cli.options import leaves_environment_out, resolve_names
from models.failures import BadInputError

COMPOSE = "services: {web: {image: debian:trixie-slim}}\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an application with a roas.yaml."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "compose.yaml").write_text(COMPOSE)
    (folder / "roas.yaml").write_text("project: shop\ncompose_files: [compose.yaml]\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ROAS_DATA_DIR", str(tmp_path / "data"))
    for name in ("ROAS_ENVIRONMENTS_DIR", "ROAS_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.mark.engine
def test_a_command_says_which_environment_it_took(shop: Path) -> None:
    done = CliRunner().invoke(roas, ["plan"])
    assert done.exit_code == 0, done.output
    assert f"environment shop, of {shop / 'roas.yaml'}" in done.stderr
    assert "create" in done.stdout


@pytest.mark.engine
def test_plan_fails_by_exit_code_alone(shop: Path) -> None:
    assert CliRunner().invoke(roas, ["plan", "shop"]).exit_code == 0
    assert CliRunner().invoke(roas, ["plan", "shop", "--exit-code"]).exit_code == 1


@pytest.mark.usefixtures("shop")
def test_a_word_that_is_no_environment_is_one_behind_it() -> None:
    assert leaves_environment_out("web")
    assert not leaves_environment_out("shop")
    assert not leaves_environment_out(None)


def test_without_a_file_each_word_is_an_environment(shop: Path) -> None:
    (shop / "roas.yaml").unlink()
    assert not leaves_environment_out("web")
    with pytest.raises(BadInputError) as refused:
        resolve_names(None, (), None)
    assert "roas init" in str(refused.value)
    assert str(shop) in str(refused.value)


def test_the_option_config_names_the_file(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The option sets it; what was there before comes back after the test.
    monkeypatch.setenv("ROAS_CONFIG", "")
    other = tmp_path / "mail.yaml"
    other.write_text(f"project: mail\ncompose_files: [{shop}/compose.yaml]\n")
    done = CliRunner().invoke(roas, ["--config", str(other), "report", "misspelt"])
    assert done.exit_code != 0
    assert str(other) in str(done.exception)
    assert "mail" in str(done.exception)
