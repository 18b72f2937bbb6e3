"""Every command, block, path and link of the documents holds."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from adapters.config.environments import read_environment
from deployments.docs.reference import PAGES
from flows.server.shared_server import end_unused_server
from models.settings import Settings
from tests.integration.docs.command_lines import (
    UnknownCommandError,
    check_command,
    commands_of,
    expand_usage,
    roas_command,
)
from tests.integration.docs.documents import (
    FLEET_TUTORIAL,
    ROOT,
    TUTORIAL,
    Block,
    anchors,
    anchors_of,
    blocks,
    documents,
    inline_code,
    links,
    text_of,
    tracked_files,
)
from tests.support.warm import warm_commands

_BLOCKS = blocks()
_PROGRAMS = ("roas ", "make ", "docker ", "prefect ", "python -m ")
# These read only; their examples are executed, against an empty data folder.
_READING = {
    "alerts", "analyse", "classify", "history", "predictions", "status", "tickets",
    "patterns list", "patterns unknown", "stores check", "archive list",
}  # fmt: skip
_ADDED_BY_RECIPES = {"LdapProbe", "digest", "pause_and_restart"}
# Written by users or by programs as they run.
_WRITTEN_LATER = ("*.md:", "deployments/images/base.digest", "docs/adr/NNNN*")


def _scripts() -> list[Block]:
    return [block for block in _BLOCKS if block.kind == "bash"]


def _lines_of_scripts() -> dict[str, list[str]]:
    """The words of each command line in a script, by document and line."""
    return {f"{block.file}: {' '.join(words)}": words for block in _scripts() for words in commands_of(block.text)}


def _lines_in_prose() -> dict[str, list[str]]:
    return {
        f"{file}: {' '.join(words)}": words
        for file in documents()
        for code in inline_code(file)
        if code.startswith(_PROGRAMS)
        for words in expand_usage(code)
    }


@pytest.mark.parametrize("block", _BLOCKS, ids=str)
def test_a_block_is_valid(block: Block, tmp_path: Path) -> None:
    assert block.mode in {"", "run"}
    assert block.kind in _CHECKS, f"{block}: nothing checks a block of this kind"
    _CHECKS[block.kind](block, tmp_path)


def _check_script(block: Block, _folder: Path) -> None:
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def _check_yaml(block: Block, folder: Path) -> None:
    declared = yaml.safe_load(block.text)
    # A title names a file of another program, such as Compose, unless it lies where environments do.
    if block.title and not block.title.startswith("roas/"):
        return
    file = folder / f"{declared['name']}.yaml"
    file.write_text(block.text)
    assert read_environment(file).name == declared["name"]


def _check_variables(block: Block, _folder: Path) -> None:
    for line in block.text.splitlines():
        assert re.fullmatch(r"[A-Z_]+=\S+", line), line


def _check_output(block: Block, _folder: Path) -> None:
    assert block.text.strip()
    assert not [line for line in block.text.splitlines() if len(line) > 120 or not line.isprintable()]


def _check_dockerfile(block: Block, _folder: Path) -> None:
    assert block.text.startswith("FROM ")


_CHECKS: dict[str, Callable[[Block, Path], object]] = {
    "bash": _check_script,
    "dockerfile": _check_dockerfile,
    "ini": _check_variables,
    "json": lambda block, _: json.loads(block.text),
    "perl": lambda block, _: subprocess.run(
        ["perl", "-c"], input=block.text, text=True, check=True, capture_output=True
    ),
    "python": lambda block, _: ast.parse(block.text),
    "text": _check_output,
    "yaml": _check_yaml,
}


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in _lines_of_scripts().items()])
def test_a_command_line_of_a_script_exists_with_its_options(words: list[str]) -> None:
    check_command(words)


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in _lines_in_prose().items()])
def test_a_command_in_prose_exists_with_its_options(words: list[str]) -> None:
    check_command(words, name_only=True)


@pytest.mark.parametrize(
    "line",
    [
        "roas begin dev",
        "roas start dev --fast",
        "roas start one two",
        "roas resolve",
        "roas resolve ID --decision perhaps",
        "roas db",
        "make everything",
        "docker compose up --quickly",
        "docker compose logs nosuch",
        "docker begin",
        "prefect deployment run startup/nosuch",
        "python -m flows.nosuch",
        "nosuch --help",
    ],
)
def test_a_command_line_that_does_not_exist_is_found(line: str) -> None:
    with pytest.raises(UnknownCommandError):
        check_command(line.split())


def _reading_commands() -> list[list[str]]:
    chosen = {}
    for words in (_lines_of_scripts() | _lines_in_prose()).values():
        if words[0] in ("roas", ".venv/bin/roas"):
            _command, rest = roas_command(words[1:])
            path = " ".join(words[1 : len(words) - len(rest)])
            filled = [{"ENV": "dev", "shop": "dev", "TEXT": "connection refused"}.get(word, word) for word in words[1:]]
            if path in _READING and not any(word.isupper() for word in filled):
                chosen[" ".join(filled)] = filled
    return list(chosen.values())


@pytest.mark.parametrize("words", _reading_commands(), ids=" ".join)
def test_a_reading_command_works(words: list[str], tmp_path: Path) -> None:
    command, _ = roas_command([])
    environment = {"ROAS_DATA_DIR": str(tmp_path), "ROAS_ENVIRONMENTS_DIR": str(ROOT / "deployments/environments")}
    done = CliRunner().invoke(command, words, env=environment)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("file", documents())
def test_each_variable_is_one_that_the_program_reads(file: str) -> None:
    named = set(re.findall(r"\bROAS_[A-Z_]+[A-Z]\b", text_of(file)))
    assert {name for name in named if not _is_read(name)} == set()


def _is_read(name: str) -> bool:
    field = name.removeprefix("ROAS_").lower()
    sources = [
        file
        for file in tracked_files()
        if not file.endswith((".md", ".png")) and not file.startswith("tests/integration/docs")
    ]
    return field in text_of("models/settings.py") or any(name in text_of(file) for file in sources)


@pytest.mark.parametrize("file", documents())
def test_each_path_in_a_document_exists(file: str) -> None:
    folders = {name.partition("/")[0] for name in tracked_files() if "/" in name}
    for code in inline_code(file):
        path = code.partition(":")[0].rstrip("/")
        if path.partition("/")[0] in folders and "/" in path and " " not in path:
            written = any(fnmatch(path, pattern) for pattern in _WRITTEN_LATER)
            assert written or list(ROOT.glob(path)), f"{file} names {path}"


def test_each_name_in_a_recipe_exists() -> None:
    sources = "\n".join(text_of(file) for file in tracked_files() if file.endswith((".py", ".yaml")))
    names = {code for code in inline_code("CONTRIBUTING.md") if re.fullmatch(r"_?[A-Za-z]+(_[A-Za-z]+)*", code)}
    assert {name for name in names - _ADDED_BY_RECIPES if not re.search(rf"\b{name}\b", sources)} == set()


@pytest.mark.parametrize("file", documents())
def test_each_link_leads_to_a_file_and_heading(file: str) -> None:
    for link in links(file):
        if not link.startswith(("http://", "https://")):
            name, _, anchor = link.partition("#")
            target = (ROOT / file).parent.joinpath(name).resolve() if name else ROOT / file
            _assert_target(str(target.relative_to(ROOT)), anchor, file)


def test_each_document_that_code_names_exists() -> None:
    sources = [
        file for file in tracked_files() if file.endswith((".py", ".yml", ".yaml", ".sh", ".toml", "Dockerfile"))
    ]
    found = (re.finditer(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", text_of(source)) for source in sources)
    for target, anchor in {match.groups() for matches in found for match in matches}:
        _assert_target(target, anchor or "", "code")


def test_each_alert_rule_names_a_heading_of_the_runbook() -> None:
    for group in _yaml("deployments/prometheus/rules/roas.yml")["groups"]:
        for rule in group["rules"]:
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            assert page == "{{ $externalLabels.runbook }}", rule["alert"]
            assert anchor in anchors("docs/runbook.md"), rule["alert"]


def test_each_decision_is_in_the_index_and_has_its_parts() -> None:
    records = [file for file in sorted(documents()) if re.match(r"docs/adr/\d{4}-", file)]
    assert [Path(record).name for record in records] == links("docs/adr/README.md")
    for record in records:
        parts = re.findall(r"^(- Date: |- Status: |## \w+)", text_of(record), re.MULTILINE)
        assert parts == ["- Date: ", "- Status: ", "## Context", "## Decision", "## Consequences"], record


def test_each_issue_form_has_what_github_requires() -> None:
    forms = [name for name in tracked_files() if re.fullmatch(r"\.github/ISSUE_TEMPLATE/(?!config).+\.yml", name)]
    assert forms
    for form in map(_yaml, forms):
        assert form["name"]
        assert form["description"]
        for field in form["body"]:
            assert field["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
            assert field["attributes"]["value" if field["type"] == "markdown" else "label"]


def test_each_hook_runs_a_program_of_the_set_up() -> None:
    [repository] = _yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert shutil.which(ROOT / hook["entry"].split()[0]) or shutil.which(hook["entry"].split()[0]), hook["id"]


def test_each_package_says_that_it_has_types() -> None:
    packages = tomllib.loads(text_of("pyproject.toml"))["tool"]["mypy"]["packages"]
    assert {name for name in packages if not (ROOT / name / "py.typed").is_file()} == set()


def _yaml(file: str) -> Any:
    return yaml.safe_load(text_of(file))


def _assert_target(file: str, anchor: str, source: str) -> None:
    if page := PAGES.get(file.removeprefix("docs/")):
        # Written when the site is built.
        assert not anchor or f'id="{anchor}"' in page() or anchor in anchors_of(page()), (
            f"{source} names {file}#{anchor}"
        )
        return
    assert (ROOT / file).exists(), f"{source} names {file}"
    if anchor:
        assert anchor in anchors(file), f"{source} names {file}#{anchor}"


_SMALL_APPLICATION = """
services:
  web:
    image: debian:trixie-slim
    init: true
    command: [sh, -c, "touch /tmp/ready; exec sleep 600"]
    healthcheck: {test: [CMD, test, -e, /tmp/ready], interval: 1s, start_period: 10s, start_interval: 200ms}
"""


@pytest.mark.engine
@pytest.mark.parametrize(
    "block", [one for one in _BLOCKS if one.mode == "run" and one.file not in (TUTORIAL, FLEET_TUTORIAL)], ids=str
)
def test_a_script_works_beside_a_small_application(block: Block, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(f"name: roas-docs-{os.getpid()}\n{_SMALL_APPLICATION}")
    script = re.sub(r"\b(SERVICE|FOLDER)\b", lambda match: match[0].lower(), block.text)
    settings = Settings(data_dir=tmp_path / "data")
    environment = (
        os.environ
        | warm_commands()
        | {"ROAS_DATA_DIR": str(settings.data_dir), "PATH": f"{ROOT}/.venv/bin:{os.environ['PATH']}"}
    )
    command = ["bash", "-euxc", script]
    try:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        subprocess.run(["docker", "compose", "down", "--timeout", "1"], cwd=tmp_path, capture_output=True, check=False)
        if settings.prefect_home.exists():
            end_unused_server(settings.prefect_home)
