"""The shipped files of patterns, as this process reads and compiles them."""

from __future__ import annotations

from dataclasses import replace

from adapters.pattern_files import compile_patterns, shipped_patterns, shipped_set


def test_patterns_are_compiled_once_however_often_each_matched() -> None:
    matched = [replace(one, match_count=3) for one in reversed(shipped_patterns())]
    assert compile_patterns(matched) is shipped_set()


def test_a_pattern_that_is_switched_off_makes_another_set() -> None:
    first, *rest = shipped_patterns()
    without = compile_patterns([replace(first, enabled=False), *rest])
    assert {one.name for one in without.patterns} == {one.name for one in rest if one.enabled}
