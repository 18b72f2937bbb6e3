"""The site's reference names everything that the code has, and its check finds what leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.main import roas
from deployments.docs.build import faults_of
from deployments.docs.reference import PAGES
from deployments.docs.reference.commands import commands_of
from deployments.docs.reference.events import events
from models.environments import Environment
from models.errors import Category, Strategy
from models.settings import Settings
from tests.integration.docs.documents import text_of, tracked_files


@pytest.mark.parametrize("place", PAGES)
def test_a_page_of_the_reference_has_a_title_and_whole_tables(place: str) -> None:
    text = PAGES[place]()
    assert text.startswith("# ")
    columns = 0
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.startswith("| ") else 0
        assert cells in (0, columns) or columns == 0, line
        columns = cells


def test_every_command_and_option_is_in_the_reference() -> None:
    text = PAGES["reference/commands.md"]()
    for path, command in commands_of(roas):
        section = text.partition(f"## {' '.join(path)}\n")[2].partition("\n## ")[0]
        options = [name for one in command.params for name in one.opts if name.startswith("-")]
        assert [one for one in options if one not in section] == [], path
        assert section, path


def test_every_field_setting_cause_and_metric_is_in_the_reference() -> None:
    metrics = re.findall(r"^# HELP (roas_\w+)", text_of("tests/golden/expected/metrics.txt"), re.MULTILINE)
    for place, names in {
        "reference/environment.md": [field.alias or name for name, field in Environment.model_fields.items()],
        "reference/settings.md": [f"ROAS_{name.upper()}" for name in Settings.model_fields],
        "reference/errors.md": [
            *Category,
            *(one for one in Strategy if not one.endswith("(manual)") and one != "none"),
        ],
        "reference/metrics.md": metrics,
        "reference/tables.md": ["deployment_operations", "metric_samples", "manual_intervention_tickets", "audit_log"],
    }.items():
        text = PAGES[place]()
        assert {name for name in names if f"`{name}`" not in text and f": {name}\n" not in text} == set(), place


def test_every_event_has_a_sentence() -> None:
    sources = [text_of(file) for file in tracked_files() if re.match(r"(flows|tasks)/.*\.py$", file)]
    named = {name for text in sources for name in re.findall(r'^\w+ = "(roas\.[a-z]+\.[a-z]+)"', text, re.MULTILINE)}
    assert {name for name, meaning in events() if meaning} == named
    assert named


def test_the_check_finds_a_picture_that_loads_a_font(tmp_path: Path) -> None:
    (tmp_path / "one.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><a href="#here"/></svg>')
    (tmp_path / "two.svg").write_text('<svg><style>@font-face {src: url("https://example.com/a.woff2")}</style></svg>')
    assert list(faults_of(tmp_path)) == ["two.svg: it loads https://example.com/a.woff2 from another address"]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="other.html">', "other.html does not exist"),
        ('<a href="#nosuch">', "#nosuch names no anchor"),
        ('<a href="page/two.html#nosuch">', "page/two.html#nosuch names no anchor"),
        ('<a href="page/two.html#here">', ""),
        ('<a href="page/">', ""),
        ('<a href="https://example.com/a">', ""),
        ('<a href="https:///a">', "is no usable address"),
        ('<a href="ftp://example.com/a">', "is no usable address"),
        ('<a href="../outside.html">', "../outside.html does not exist"),
        ('<img src="nosuch.svg" alt="">', "nosuch.svg does not exist"),
        ('<img src="picture.svg">', "picture.svg has no text"),
        ('<img src="https://example.com/a.png" alt="">', "from another address"),
        ('<script src="//example.com/a.js"></script>', "from another address"),
        ('<link rel="stylesheet" href="https://example.com/a.css">', "from another address"),
        ('<link rel="canonical" href="https://example.com/a">', ""),
    ],
)
def test_the_check_of_the_site_finds(tmp_path: Path, body: str, fault: str) -> None:
    site = tmp_path / "site"
    (site / "page").mkdir(parents=True)
    (tmp_path / "outside.html").write_text("")
    (site / "picture.svg").write_text("<svg/>")
    for name in ("two", "index"):
        (site / "page" / f"{name}.html").write_text('<h1 id="here">Two</h1>')
    (site / "index.html").write_text(f"<h1>One</h1>{body}")

    found = list(faults_of(site))

    assert len(found) == bool(fault)
    assert all(fault in one for one in found)
