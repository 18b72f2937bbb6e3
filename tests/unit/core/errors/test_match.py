"""Patterns: which match decides, and which lines a benign pattern excuses."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.pattern_files import harmless_lines, shipped_patterns
from core.errors.match import CAUSE, CERTAIN, WRAPPER, BadPatternError, PatternSet, check_pattern
from models.errors import Category, Pattern, Severity, Strategy


def pattern(
    name: str,
    regex: str,
    *,
    category: Category = Category.TIMEOUT,
    strategy: Strategy = Strategy.INVESTIGATE,
    priority: int = CAUSE,
    enabled: bool = True,
) -> Pattern:
    return Pattern(
        name=name,
        regex=regex,
        category=category,
        severity=Severity.MEDIUM,
        strategy=strategy,
        priority=priority,
        enabled=enabled,
    )


def test_the_cause_decides_and_not_the_wrapper_around_it() -> None:
    patterns = PatternSet([pattern("wrapper", "task failed", priority=WRAPPER), pattern("cause", "gears jammed")])

    found = patterns.find("task failed: gears jammed: task failed")

    assert found[0].pattern.name == "cause"
    assert {match.pattern.name for match in found} == {"cause", "wrapper"}


def test_of_equal_causes_the_later_words_decide() -> None:
    patterns = PatternSet([pattern("outer", "pump stopped"), pattern("inner", "valve shut")])

    assert patterns.find("pump stopped: valve shut")[0].pattern.name == "inner"
    assert patterns.find("valve shut: pump stopped")[0].pattern.name == "outer"


def test_of_equal_causes_the_one_that_needs_a_person_decides() -> None:
    patterns = PatternSet(
        [
            pattern("by itself", "pump stopped", strategy=Strategy.RESTART_SERVICE),
            pattern("a person's", "valve locked", strategy=Strategy.FIX_PERMISSIONS),
        ]
    )

    assert patterns.find("valve locked: pump stopped")[0].pattern.name == "a person's"
    assert patterns.find("pump stopped: valve locked")[0].pattern.name == "a person's"


def test_the_span_counts_characters_and_not_bytes() -> None:
    text = "für 東京: valve shut"
    (found,) = PatternSet([pattern("cause", "valve shut")]).find(text)

    assert text[slice(*found.span)] == "valve shut"


def test_letter_case_does_not_matter() -> None:
    assert PatternSet([pattern("cause", "valve shut")]).find("VALVE Shut")


def test_a_disabled_pattern_matches_nothing() -> None:
    assert PatternSet([pattern("cause", "valve shut", enabled=False)]).find("valve shut") == ()


def test_no_patterns_at_all_match_nothing() -> None:
    assert PatternSet([]).find("valve shut") == ()


def test_a_benign_line_excuses_its_own_words_only() -> None:
    patterns = PatternSet(
        [
            pattern("drill", "this is a drill", category=Category.BENIGN, priority=CERTAIN),
            pattern("cause", "valve shut"),
        ]
    )

    assert [match.pattern.name for match in patterns.find("valve shut, this is a drill")] == ["drill"]
    assert patterns.find("this is a drill\nvalve shut")[0].pattern.name == "cause"


def test_a_pattern_that_does_not_compile_names_itself() -> None:
    with pytest.raises(BadPatternError, match="'broken' does not compile"):
        PatternSet([pattern("broken", "(")])


@pytest.mark.parametrize("regex", [r"(?=look)", r"(a)\1", "a{9999}"])
def test_what_could_not_be_matched_in_linear_time_is_not_taken(regex: str) -> None:
    assert check_pattern(pattern("new", regex), harmless_lines())


def test_a_pattern_that_matches_a_harmless_line_is_not_taken() -> None:
    (complaint,) = check_pattern(pattern("new", "ready to accept connections tcp"), harmless_lines())

    assert "known to be harmless" in complaint


def test_a_pattern_that_matches_every_line_is_not_taken() -> None:
    assert check_pattern(pattern("new", "(valve)?"), harmless_lines())


def test_a_plain_pattern_is_taken() -> None:
    assert check_pattern(pattern("new", r"valve \d+ shut"), harmless_lines()) == ()


def test_the_shipped_patterns_would_be_taken_themselves() -> None:
    assert {p.name: c for p in shipped_patterns() if (c := check_pattern(p, harmless_lines()))} == {}
    assert len({p.name for p in shipped_patterns()}) == len(shipped_patterns())


def test_many_patterns_of_persons_are_found_beside_the_shipped_ones() -> None:
    words = [sha256(str(number).encode()).hexdigest()[:16] for number in range(4000)]
    own = [pattern(f"own_{first}", "|".join(words[first : first + 20])) for first in range(0, len(words), 20)]
    patterns = PatternSet([*shipped_patterns(), *own, pattern("gears", "gears jammed", priority=CERTAIN)])

    assert patterns.find("the gears jammed again")[0].pattern.name == "gears"
    assert patterns.find(f"{words[-1]} again")[0].pattern.name == own[-1].name


def test_no_shipped_pattern_acts_on_what_is_a_persons() -> None:
    persons = {
        Category.DOCKER_PERMISSION_DENIED,
        Category.VOLUME_MOUNT,
        Category.COMPOSE_INVALID,
        Category.MISSING_ENV_SECRET,
        Category.TLS_CERTIFICATE,
        Category.DATABASE_CORRUPT,
        Category.EXEC_FORMAT_ENTRYPOINT,
        Category.PYTHON_IMPORT_CONFIG,
        Category.KERNEL_NETWORK_DRIVER,
        Category.UNKNOWN,
    }

    assert [p.name for p in shipped_patterns() if p.category in persons and p.strategy.automatic] == []


@given(st.text(max_size=400))
def test_any_text_is_matched_and_spans_lie_within_it(text: str) -> None:
    for match in PatternSet([pattern("one", r"\w+"), pattern("two", r"[^a]{2}")]).find(text):
        start, end = match.span
        assert 0 <= start < end <= len(text)


def test_a_text_without_any_patterns_words_matches_nothing() -> None:
    assert PatternSet([pattern("cause", "valve shut")]).find("all is well") == ()
