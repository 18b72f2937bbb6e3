"""Each command has a man page, and troff has nothing to say about it."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from cli.main import roas
from deployments.docs.man import write_man_pages
from deployments.docs.reference.commands import commands_of
from tests.integration.docs.documents import ROOT


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_man_pages(tmp_path_factory.mktemp("man"))


def test_each_command_has_a_page_without_a_warning(pages: list[Path]) -> None:
    names = {"roas", *("-".join(path) for path, _ in commands_of(roas))}
    assert {page.stem for page in pages} == names
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "warning", *pages], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_page_shows_options_examples_and_exit_codes(pages: list[Path]) -> None:
    shown = {page.stem: _shown(page) for page in pages}
    assert "--timing" in shown["roas-start"]
    assert "130 stopped by Ctrl-C" in " ".join(shown["roas-start"].split())
    assert """bash  echo 'eval "$(roas completion bash)"' >> ~/.bashrc""" in shown["roas-completion"]
    assert "roas patterns lint" in shown["roas"]


def test_a_wheel_has_the_pages_that_were_written(tmp_path: Path) -> None:
    for name in ("pyproject.toml", "README.md", "LICENSE", "cli", "deployments"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("flows", "tasks", "core", "adapters", "models", "patterns"):
        (tmp_path / name).mkdir()
    (tmp_path / "man").mkdir()
    (tmp_path / "man" / "roas.1").write_text(".TH ROAS 1")

    assert [name for name in _wheel(tmp_path) if name.endswith("/share/man/man1/roas.1")]
    (tmp_path / "man" / "roas.1").unlink()
    assert [name for name in _wheel(tmp_path) if "share/man" in name] == []


def _wheel(folder: Path) -> list[str]:
    command = [f"{ROOT}/.venv/bin/python", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        return file.namelist()


def _shown(page: Path) -> str:
    done = subprocess.run(
        ["mandoc", "-T", "ascii", "-O", "width=110", page], capture_output=True, text=True, check=True
    )
    # A letter printed over itself is bold.
    return "".join(part[-1:] if part else "" for part in _letters(done.stdout))


def _letters(text: str) -> list[str]:
    """Each place of the text, with what is printed over it."""
    places: list[str] = []
    over = False
    for letter in text:
        if letter == "\b":
            over = True
        elif over:
            places[-1] += letter
            over = False
        else:
            places.append(letter)
    return places
