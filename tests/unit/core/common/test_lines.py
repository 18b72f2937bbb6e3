from __future__ import annotations

import pytest

from core.common.lines import LONGEST_LINE, LineAssembler


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_the_same_however_the_stream_is_parted(size: int) -> None:
    stream = "first\r\n\nzweite mit ü\nlast".encode()
    assembler = LineAssembler()
    lines = [line for at in range(0, len(stream), size) for line in assembler.feed(stream[at : at + size])]
    assert [*lines, *assembler.rest()] == ["first", "", "zweite mit ü", "last"]
    assert assembler.rest() == []


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert LineAssembler().feed(b"a\xff\xfeb\n") == ["a\ufffd\ufffdb"]


def test_a_line_without_end_takes_bounded_memory_and_says_that_it_is_cut() -> None:
    assembler = LineAssembler()
    assert [assembler.feed(b"x" * 10_000) for _ in range(1000)] == [[]] * 1000
    [line] = assembler.feed(b"\n")
    assert line == "x" * LONGEST_LINE + " [cut]"
    assert assembler.feed(b"next\n") == ["next"]


def test_a_line_is_cut_between_words_since_half_a_secret_would_not_be_known() -> None:
    secret = b"s3cret" * 200
    [line] = LineAssembler().feed(b"x" * (LONGEST_LINE - 100) + b" " + secret + b"\n")
    assert line == "x" * (LONGEST_LINE - 100) + " [cut]"
