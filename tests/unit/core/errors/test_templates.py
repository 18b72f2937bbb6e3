"""Templates: what changes is masked, what does not is kept."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from core.errors.templates import expression_for, fingerprint_of, template_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("job 17 lost after 12.5ms", "job 4211 lost after 3ms"),
        ("2026-01-02T03:04:05.123Z pump stopped", "2027-11-12T13:14:15.9Z pump stopped"),
        ("Jan  2 03:04:05 pump stopped", "Dec 12 13:14:15 pump stopped"),
        ("no answer from 10.0.0.3:6379", "no answer from 172.18.0.22:5432"),
        ("layer 5f2b8a9c0d1e3f4a is gone", "layer 0a1b2c3d4e5f6a7b8c9d is gone"),
        ("run 3eddeef5-052c-4c72-8bfc-7522c0f5f19e ended", "run 0eddeef5-152c-4c72-8bfc-0522c0f5f19e ended"),
        ("cannot read /srv/a/b.yaml", "cannot read /opt/c.yaml"),
        ("web_1  | pump stopped", "web_22 | pump stopped"),
        ("\x1b[31mpump stopped\x1b[0m", "pump stopped"),
        ("GET http://a:80/x failed", "GET https://b.example/y?z=1 failed"),
    ],
)
def test_messages_that_differ_in_passing_things_share_a_template(one: str, other: str) -> None:
    assert template_of(one) == template_of(other)


def test_different_causes_keep_different_templates() -> None:
    assert template_of("pump 1 stopped") != template_of("valve 1 stopped")


def test_a_template_is_readable() -> None:
    assert template_of("job 17 at 10.0.0.3:80 lost /srv/a") == "job <number> at <address> lost <path>"


@given(st.text(max_size=300))
def test_masking_twice_changes_nothing(text: str) -> None:
    once = template_of(text)
    assert template_of(once) == once


@given(st.text(max_size=300))
def test_a_fingerprint_is_stable_and_short(text: str) -> None:
    assert fingerprint_of(text) == fingerprint_of(text)
    assert len(fingerprint_of(text)) == 16


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("2026-01-01 10:00:00 ERROR [main] ledger 17 refuses at /srv/a", "ERROR ledger 9 refuses at /tmp/b"),
        (
            'web-1 | level=error msg="cannot (re)open x" for https://a.b/c',
            'web-9 | level=error msg="cannot (re)open x" for http://d/',
        ),
        ("\n12:00:01\nquota of 5 books is used up", "quota  of 70 books is used up"),
    ],
)
def test_an_expression_knows_the_words_again(text: str, again: str) -> None:
    expression = expression_for(text)

    assert expression is not None
    assert re2.search(f"(?i){expression}", text)
    assert re2.search(f"(?i){expression}", again)
    assert not re2.search(expression, "quite another thing")


@pytest.mark.parametrize("text", ["", "17", "10:00:00 ERROR", "boom", "/a/b/c", "ERROR 500"])
def test_words_that_tell_too_little_make_no_expression(text: str) -> None:
    assert expression_for(text) is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=300))
def test_an_expression_matches_the_text_it_is_made_of(text: str) -> None:
    expression = expression_for(text)

    assert expression is None or re2.search(expression, text)
