"""The kept-back messages that measure the classifier are well formed."""

import json
import re
from pathlib import Path

import pytest

from models.errors import Category, Severity, Strategy

FILE = Path(__file__).parents[4] / "benchmarks" / "data" / "errors_unseen.jsonl"
ROWS = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
_REGISTRY_HOST = re.compile(r"\b(?:docker\.io|ghcr\.io|quay\.io|pypi\.org|registry\.npmjs\.org|deb\.debian\.org)\b")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_label_names_a_known_category_strategy_and_severity(row):
    assert {row["category"], row.get("also_ok", row["category"])} <= {*Category}
    assert row["severity"] in {*Severity}
    assert Strategy(row["safe_recovery"]).automatic is row["auto_recoverable"]
    assert (row["category"] == Category.BENIGN) == (row["safe_recovery"] == Strategy.NONE)


def test_a_row_has_its_own_id_and_text():
    assert len({row["id"] for row in ROWS}) == len({row["text"] for row in ROWS}) == len(ROWS)


def test_no_text_names_the_host_of_a_registry():
    assert [row["id"] for row in ROWS if _REGISTRY_HOST.search(row["text"])] == []
