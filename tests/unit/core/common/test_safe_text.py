"""Text of others: whatever a terminal would obey is visible or gone, and ordinary text is as it was."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.common.safe_text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[32mINFO\x1b[0m ready", "INFO ready"),
        ("\x9b1;31mERROR\x9bm", "ERROR"),
        ("\x1b]52;c;Y3VybCBldmls\x07", r"\x1b]52;c;Y3VybCBldmls\x07"),
        ("FATAL: gone\x1b[2K\rall is well", r"FATAL: gone\x1b[2K\rall is well"),
        ("one\r\ntwo\r\r\n", "one\ntwo\n"),
        ("a\u202egnp.exe", r"a\u202egnp.exe"),
        ("pass\u200bword\u2060\ufeff\xad", r"pass\u200bword\u2060\ufeff\xad"),
        ("hi\U000e0041\U000e0042", r"hi\U000e0041\U000e0042"),
        ("half \ud83d", r"half \ud83d"),
        ("\x85\x9d0;title\x9c\x00\x7f", r"\x85\x9d0;title\x9c\x00\x7f"),
    ],
)
def test_what_a_terminal_would_obey_is_made_visible(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["", "plain", "a\tb\nc", "größer 日本語 ⚠️ 🚀", "naïve “quoted” … €", "файл не найден"])
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@given(st.text(alphabet=st.characters(codec=None), max_size=200))
def test_no_control_or_format_character_is_left(text: str) -> None:
    shown = printable(text)

    kinds = {unicodedata.category(one) for one in shown if one not in "\t\n"}
    assert not kinds & {"Cc", "Cs"}
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    assert printable(shown) == shown
