"""Files of patterns: the shipped ones hold their own examples, and a mistake is reported with its place."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from adapters.pattern_files import (
    FOLDER,
    described_patterns,
    harmless_lines,
    read_file,
    shipped_patterns,
    shipped_set,
)
from core.errors.classify import classify as classify_by
from core.errors.match import GENERIC, INNERMOST, WRAPPER
from core.errors.pattern_files import (
    BadPatternFileError,
    lint_patterns,
    never_deciding,
    read_patterns,
    read_words,
)
from models.errors import Category, Pattern, Strategy

classify = partial(classify_by, patterns=shipped_set())

FILES = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "words.yaml")

ENTRY = r"""
program: pump
patterns:
  - id: valve_shut
    means: The valve does not let anything through.
    category: timeout
    severity: high
    strategy: investigate(manual)
    precedence: innermost+2
    expression: ['valve %{NUMBER} shut', 'no flow behind valve']
    match: ['pump: valve 7 shut', 'E valve 12 shut', 'pump: no flow behind valve']
    no_match: ['valve 7 open', 'valve shut']
    source: pump/src/valve.c
"""
WORDS = {"NUMBER": r"\d+"}


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_a_shipped_file_holds_its_own_examples(file: Path) -> None:
    described = read_file(file)

    assert lint_patterns(described, harmless_lines()) == ()
    assert {one.program for one in described} == {file.stem}
    # Each pattern decides one of its examples against all others: it is needed.
    assert never_deciding(described, classify) == ()


def test_no_finding_of_this_program_is_taken_for_good_news() -> None:
    own = [line for one in described_patterns() if one.program == "roas" for line in one.match]

    assert len(own) > 40
    assert [line for line in own if classify(line).category is Category.BENIGN] == []


@pytest.mark.parametrize(
    "hint", [one for one in shipped_patterns() if GENERIC < one.priority < WRAPPER], ids=lambda one: one.name
)
def test_a_hint_offers_no_action(hint: Pattern) -> None:
    assert not hint.strategy.automatic


def test_no_id_occurs_in_two_files() -> None:
    assert lint_patterns(described_patterns(), ()) == ()


@pytest.mark.parametrize("line", harmless_lines())
def test_a_harmless_line_is_benign(line: str) -> None:
    assert classify(line).category is Category.BENIGN


def test_an_entry_becomes_a_pattern() -> None:
    (found,) = read_patterns(ENTRY, "pump.yaml", WORDS)

    assert found.pattern.regex == r"valve (?:\d+) shut|no flow behind valve"
    assert found.pattern.priority == INNERMOST + 2
    assert found.pattern.strategy is Strategy.INVESTIGATE
    assert lint_patterns([found], ()) == ()


@pytest.mark.parametrize(
    ("written", "instead", "reported"),
    [
        ("category: timeout", "category: tiredness", "tiredness is no category"),
        ("precedence: innermost+2", "precedence: high", "precedence is one of certain"),
        ("%{NUMBER}", "%{NOTHING}", "words.yaml has no %{NOTHING}"),
        ("id: valve_shut", "id: Valve!", "an id has 3 to 60 small letters"),
        ("source: pump", "origin: pump", "the key source is missing"),
        ("program: pump", "programme: pump", "it needs `program: NAME`"),
        ("no_match: ['valve 7 open', 'valve shut']", "no_match: valve shut", "no_match is a list of texts"),
        ("means:", "means: [", "it is not YAML"),
    ],
)
def test_a_mistake_in_a_file_is_reported_with_its_place(written: str, instead: str, reported: str) -> None:
    with pytest.raises(BadPatternFileError, match=r"pump\.yaml") as error:
        read_patterns(ENTRY.replace(written, instead, 1), "pump.yaml", WORDS)

    assert reported in str(error.value)


@pytest.mark.parametrize(
    ("written", "instead", "reported"),
    [
        ("'E valve 12 shut', ", "", "2 different examples under match"),
        (", 'valve shut'", "", "1 different examples under no_match"),
        ("'valve 7 open'", "'valve 7 shut'", "matches its near miss"),
        ("'pump: valve 7 shut'", "'pump: valve A shut'", "does not match its example"),
        ("valve %{NUMBER} shut", "valve (?=7)", "does not compile"),
    ],
)
def test_examples_that_do_not_hold_are_reported(written: str, instead: str, reported: str) -> None:
    described = read_patterns(ENTRY.replace(written, instead, 1), "pump.yaml", WORDS)

    assert any(reported in said for said in lint_patterns(described, ()))


def test_a_pattern_of_an_error_that_matches_a_harmless_line_is_reported() -> None:
    described = read_patterns(ENTRY, "pump.yaml", WORDS)

    (said,) = lint_patterns(described, ["self test: valve 3 shut and opened"])

    assert "known to be harmless" in said


def test_words_may_use_words_above_them() -> None:
    assert read_words("A: 'x+'\nB: '%{A}y'")["B"] == "(?:x+)y"
