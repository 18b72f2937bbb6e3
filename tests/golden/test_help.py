"""`--help` of every command."""

from __future__ import annotations

import re

from tests.golden.conftest import RoasCommand, golden


def sub_commands(text: str) -> list[str]:
    _, *sections = re.split(r"\n(?=[A-Z][a-z ]+:\n)", text)
    listed = [section for section in sections if not section.startswith("Options:")]
    return sorted(name for section in listed for name in re.findall(r"^  ([a-z-]+)  ", section, flags=re.MULTILINE))


def test_help_of_every_command(empty: RoasCommand) -> None:
    texts = [f"$ roas --help\n{empty('--help').out}"]
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        words = waiting.pop(0)
        asked = (*words, "--help", *(() if words else ("--all",)))
        done = empty(*asked)
        assert done.code == 0, done.err
        texts.append(f"$ roas {' '.join(asked)}\n{done.out}")
        waiting[:0] = [(*words, name) for name in sub_commands(done.out)]

    golden("help.txt", "\n".join(texts))
