"""Each field of a page has a sentence, of the one table that the reference has, too."""

from __future__ import annotations

import ast
import inspect
import re
from html import unescape
from pathlib import Path

import pytest

from core.reporting import postmortem, report_page
from core.reporting.field_words import COLUMNS, FIELDS
from core.runtime.page_actions import ACTIONS, PageAction
from flows.page.rendering import BASE
from models.hosts import HostIdentity
from models.snapshots import DataSnapshot, SnapshotState
from tasks.runtime.stores import open_stores
from tests.integration.page.page_clients import signed_in
from tests.integration.page.prefect_server import PrefectServer
from tests.integration.page.test_same_as_commands import NOW
from tests.support.page import page_client

NAMED = re.compile(r"<(th|dt|label)\b([^>]*)>(.*?)</\1>", re.DOTALL)
UNSEEN = re.compile(r'<span class="unseen">.*?</span>', re.DOTALL)


def fields_of(html: str) -> dict[str, str]:
    """The tooltip of each field that a page names: columns, facts, and what is filled in; empty where it has none."""
    fields = {}
    for kind, attributes, content in NAMED.findall(html):
        name = " ".join(unescape(re.sub(r"<[^>]*>", " ", UNSEEN.sub("", content))).split())
        is_row = kind == "th" and 'scope="col"' not in attributes
        # An answer's name is its button; its effect stands beside it.
        is_button = kind == "dt" and "<a " in content
        if name and not is_row and not is_button:
            title = re.search(r'title="([^"]*)"', attributes)
            fields[name] = unescape(title[1]) if title else ""
    return fields


def test_every_field_of_every_page_has_its_sentence(recorded: Path) -> None:
    stores = open_stores()
    stores.hosts.report(HostIdentity(host_id="h-a", name="alpha"), version="1", engine="unix:///x", backlog=0)
    stores.snapshots.begin(DataSnapshot(snapshot_id="d-1", environment="shop", begun_at=NOW, state=SnapshotState.WHOLE))
    reports = [f"/environments/shop/report?days={days}" for days in (7, 365)]
    reports += [f"/postmortems/{error.error_id}" for error in stores.errors.latest()]
    (recorded / "shop.yaml").unlink()
    shop = "/environments/shop"
    paths = ["/", "/operations", "/tickets", "/fleet", shop, *(f"{shop}/{part}" for part in PARTS)]
    paths += reports
    paths += [f"/operations/{operation.deployment_id}" for operation in stores.operations.history()]
    paths += [f"/failures/{error.error_id}" for error in stores.errors.latest()]
    paths += [f"/tickets/{ticket.ticket_id}" for ticket in stores.tickets.find()]

    client, sentences = page_client(), {*FIELDS.values(), *COLUMNS.values()}
    fields: dict[str, str] = {}
    for path in paths:
        shown = fields_of(client.get(f"{BASE}{path}").text)
        assert [name for name, title in shown.items() if title not in sentences] == [], path
        fields |= shown

    assert {"Verdict", "Up", "Backlog", "Rehearsal", "Took", "Severity", "Affects", "Lines of each"} <= fields.keys()


PARTS = ("operations", "releases", "snapshots", "logs", "sizes")


@pytest.mark.parametrize("action", [action for action in ACTIONS.values() if action.fields], ids=lambda one: one.name)
async def test_what_is_filled_in_has_a_sentence(home: Path, prefect: PrefectServer, action: PageAction) -> None:
    fields = [field for field in action.fields if not field.is_hidden]
    assert all(field.help.endswith(".") for field in fields)
    if action.name in ("pause", "resume", "restart"):
        async with signed_in(home, prefect) as ann:
            page = await ann.get(f"/roas/do/{action.name}/shop")
        shown = fields_of(page.text)
        assert [shown[field.label] for field in fields] == [field.help for field in fields]


def test_sentences_are_sentences_and_none_is_unused() -> None:
    sentences = (*FIELDS.values(), *COLUMNS.values())
    assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in sentences)
    assert all(sentence.endswith(".") for sentence in sentences)
    templates = "".join(path.read_text() for path in (Path(__file__).parents[3] / "flows/page/templates").glob("*.j2"))
    assert [name for name in FIELDS if f'("{name}")' not in templates] == []


def test_each_column_of_a_document_has_its_sentence_and_none_is_unused() -> None:
    named: set[str] = set()
    for module in (report_page, postmortem):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            is_head = isinstance(node, ast.keyword) and node.arg == "head"
            is_named = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("head", "judged")
            if is_head or is_named:
                named |= {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
    assert named - {None} == COLUMNS.keys()
