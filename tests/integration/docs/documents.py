"""Read the documents: fenced blocks, inline commands, headings and links."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[3]

TUTORIAL, FLEET_TUTORIAL = "docs/tutorial.md", "docs/tutorial-fleet.md"
"""Pages whose blocks depend on each other; tests/e2e/docs runs them."""

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+(?:\n[^`\n]+)?)`(?!`)")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; `mode` is the second word after the fence, `run` executes the block; `title` names a file."""

    file: str
    line: int
    kind: str
    mode: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@cache
def tracked_files() -> tuple[str, ...]:
    """Every file of the repository, new ones included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return tuple(file for file in listed if (ROOT / file).is_file())


def documents() -> list[str]:
    return [file for file in tracked_files() if file.endswith(".md")]


@cache
def text_of(file: str) -> str:
    return (ROOT / file).read_text()


def blocks() -> list[Block]:
    found = []
    for file in documents():
        for match in _FENCE.finditer(text_of(file)):
            kind, _, mode = match[1].strip().partition(" ")
            titled = re.fullmatch(r'title="([^"]+)"', mode)
            mode, title = ("", titled[1]) if titled else (mode, "")
            line = text_of(file).count("\n", 0, match.start()) + 1
            found.append(Block(file=file, line=line, kind=kind, mode=mode, title=title, text=match[2]))
    return found


def prose(file: str) -> str:
    """The text of a document without its fenced blocks."""
    return _FENCE.sub("", text_of(file))


def inline_code(file: str) -> list[str]:
    return [" ".join(code.split()) for code in _INLINE.findall(prose(file))]


def links(file: str) -> list[str]:
    return _LINK.findall(_INLINE.sub("", prose(file)))


@cache
def anchors(file: str) -> frozenset[str]:
    """The anchor of each heading of a document."""
    return anchors_of(prose(file))


def anchors_of(text: str) -> frozenset[str]:
    """The anchor of each heading, by GitHub's rule."""
    headings = _HEADING.findall(text)
    return frozenset(re.sub(r"[^\w -]", "", heading).lower().strip().replace(" ", "-") for heading in headings)
