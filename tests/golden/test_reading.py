"""What every command that reads prints of the recorded stores, as text and as JSON."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path

import pytest

from tests.golden.conftest import EXPECTED, CommandOutput, RoasCommand, golden

BOTH = {
    "status": ("status",),
    "status of one": ("status", "shop"),
    "history": ("history",),
    "history of one": ("history", "shop", "--limit", "2"),
    "history verified": ("history", "--verify"),
    "history of failed start": ("history", "{failed start}"),
    "history of restart": ("history", "{restart}"),
    "history of stop": ("history", "{stop}"),
    "why": ("why",),
    "why of one": ("why", "shop"),
    "why with evidence": ("why", "{failed start}", "--evidence"),
    "why of success": ("why", "{restart}"),
    "postmortem": ("postmortem", "{failed start}"),
    "postmortem of ticket": ("postmortem", "{resolved ticket}"),
    "releases": ("releases", "shop"),
    "tickets": ("tickets",),
    "tickets all": ("tickets", "shop", "--all"),
    "tickets of open": ("tickets", "{open ticket}"),
    "tickets of resolved": ("tickets", "{resolved ticket}"),
    "alerts": ("alerts",),
    "alerts all": ("alerts", "shop", "--all"),
    "stats": ("stats", "shop"),
    "predictions": ("predictions", "shop"),
    "patterns show": ("patterns", "show", "redis_login"),
    "patterns show own": ("patterns", "show", "flux"),
    "patterns test": ("patterns", "test", "FATAL: password authentication failed for user app"),
    "patterns unknown": ("patterns", "unknown"),
    "classify": ("classify", "write failed: no space left on device"),
    "classify own": ("classify", "the flux capacitor is out of phase"),
    "classify unknown": ("classify", "the zebra has crossed"),
    "db check": ("db", "check"),
    "archive list": ("archive", "list"),
}
"""Commands that take --json."""

TEXT = {
    "detect": (("detect",), "timestamp,value\n" + "".join(f"{60 * n},{50 + n % 3}\n" for n in range(40)) + "2400,95\n"),
    "classify lines": (
        ("classify",),
        '{"id": "a", "text": "connection refused"}\n{"id": "b", "text": "exited with code 137"}\n',
    ),
    "pause": (("pause", "db", "--env", "shop", "--for", "2h", "--reason", "new disk"), ""),
    "unpause": (("unpause", "web", "--env", "shop"), ""),
    "acknowledge": (("acknowledge", "{open alert}", "--note", "on it"), ""),
    "resolve": (("resolve", "{open ticket}", "--note", "put the password back"), ""),
    "patterns add": (("patterns", "add", "warp", "warp core", "--category", "timeout"), ""),
    "patterns disable": (("patterns", "disable", "redis_login"), ""),
    "patterns enable": (("patterns", "enable", "redis_login"), ""),
    "patterns remove": (("patterns", "remove", "flux"), ""),
    "backup": (("backup", "copy"), ""),
    "archive query": (("archive", "query", "errors"), ""),
}


@pytest.fixture(scope="session")
def ids(recorded_data: Path) -> dict[str, str]:
    """Ids of what was recorded, by words that the commands above use."""

    def ask(store: str, question: str) -> str:
        with sqlite3.connect(recorded_data / f"{store}.db") as connection:
            return str(connection.execute(question).fetchone()[0])

    operation = "SELECT deployment_id FROM deployment_operations WHERE operation_type = '{}' AND status = '{}'"
    ticket = "SELECT ticket_id FROM manual_intervention_tickets WHERE state {} 'resolved' ORDER BY id"
    return {
        "{failed start}": ask("deployment_logs", operation.format("start", "failed")),
        "{restart}": ask("deployment_logs", operation.format("restart", "success")),
        "{stop}": ask("deployment_logs", operation.format("stop", "success")),
        "{open ticket}": ask("errors", ticket.format("!=")),
        "{resolved ticket}": ask("errors", ticket.format("=")),
        "{open alert}": ask("monitoring", "SELECT alert_id FROM alerts WHERE resolved_at IS NULL"),
    }


def run(roas: RoasCommand, ids: dict[str, str], *words: str, said: str = "") -> CommandOutput:
    return roas(*(ids.get(word, word) for word in words), said=said)


def without_sizes(text: str) -> str:
    """Without what depends on the version of SQLite, on how long a check took and on the number of shipped patterns."""
    text = re.sub(r"(?s)(\nerrors intact.*?)\d+ rows", r"\1ROWS rows", text, count=1)
    text = re.sub(r'("error_patterns": )\d+', r"\1ROWS", text)
    text = re.sub(
        r'(?s)("store": "errors".*?"growth_bytes_per_day": )[\d.]+(,\s*"full_in": )"[^"]*"', r"\1SIZE\2TIME", text
    )
    text = re.sub(r"\b[\d,]+(\.\d+)? (B|KiB|MiB|GiB|bytes)\b", "SIZE", text)
    return re.sub(r'("(?:bytes|[a-z_]*_bytes|size)": )\d+', r"\1SIZE", text)


@pytest.mark.parametrize("name", BOTH)
def test_text(recorded: RoasCommand, ids: dict[str, str], name: str) -> None:
    golden(f"reading/{name}.txt", without_sizes(run(recorded, ids, *BOTH[name]).transcript()))


@pytest.mark.parametrize("name", BOTH)
def test_json(recorded: RoasCommand, ids: dict[str, str], name: str) -> None:
    done = run(recorded, ids, *BOTH[name], "--json")

    json.loads(done.out)
    golden(f"reading/{name}.json", without_sizes(done.out))


def test_list_of_patterns(recorded: RoasCommand) -> None:
    text, document = recorded("patterns", "list"), recorded("patterns", "list", "--json")

    # The library grows; one pattern of it and our own stand for all.
    lines = [line for line in text.out.splitlines() if re.search(r"^name |\b(redis_login|flux)\b", line)]
    golden("reading/patterns list.txt", "\n".join(["$ roas patterns list", *lines]))
    patterns = [one for one in json.loads(document.out) if one["name"] in ("redis_login", "flux")]
    golden("reading/patterns list.json", json.dumps(patterns, indent=2))


@pytest.mark.parametrize("name", TEXT)
def test_text_only(recorded: RoasCommand, ids: dict[str, str], name: str) -> None:
    words, said = TEXT[name]
    golden(f"reading/{name}.txt", without_sizes(run(recorded, ids, *words, said=said).transcript()))


@pytest.mark.parametrize("name", ["status", "history", "tickets", "alerts", "why", "archive list", "db check"])
def test_nothing_recorded_yet(empty: RoasCommand, name: str) -> None:
    golden(f"reading/empty {name}.txt", without_sizes(empty(*BOTH[name]).transcript()))


def test_every_expected_text_has_its_test() -> None:
    both = (*BOTH, "patterns list")
    made = {f"{name}.{kind}" for name in both for kind in ("txt", "json")} | {f"{name}.txt" for name in TEXT}
    there = {file.name for file in (EXPECTED / "reading").iterdir() if not file.name.startswith("empty ")}

    assert there == made
