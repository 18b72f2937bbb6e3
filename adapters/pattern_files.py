"""The files of patterns that come with the program, read once in a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from adapters.shipped_version import FOLDER, shipped_files
from core.errors.match import PatternSet
from core.errors.pattern_files import BadPatternFileError, read_patterns, read_words
from core.errors.reading import ExcerptReader, read_formats, read_recoveries
from models.errors import DescribedPattern, Pattern

_WORDS = "words.yaml"
_HARMLESS = "harmless.txt"


@lru_cache(maxsize=1)
def described_patterns() -> tuple[DescribedPattern, ...]:
    """The shipped patterns with their meanings and examples.

    Raises BadPatternFileError if a file of the installation is missing or damaged.
    """
    words = read_words(_text(FOLDER / _WORDS))
    files = [path for path in shipped_files() if path.name != _WORDS]
    return tuple(pattern for path in files for pattern in read_patterns(_text(path), path.name, words))


@lru_cache(maxsize=1)
def shipped_patterns() -> tuple[Pattern, ...]:
    """The shipped patterns, as they are kept in error_patterns."""
    return tuple(pattern.pattern for pattern in described_patterns())


@lru_cache(maxsize=1)
def shipped_set() -> PatternSet:
    """The shipped patterns, compiled."""
    return compile_patterns(shipped_patterns())


def compile_patterns(patterns: Sequence[Pattern]) -> PatternSet:
    """Compile patterns, with the shipped formats of logs to read by; the same ones once in a process.

    The set does not know how often each matched: that changes all the time.
    """
    uncounted = (
        replace(pattern, match_count=0, last_matched=None) if pattern.match_count or pattern.last_matched else pattern
        for pattern in patterns
    )
    return _compile_patterns(tuple(sorted(uncounted, key=lambda pattern: (-pattern.priority, pattern.name))))


@lru_cache(maxsize=2)
def _compile_patterns(patterns: tuple[Pattern, ...]) -> PatternSet:
    return PatternSet(patterns, shipped_reader())


@lru_cache(maxsize=1)
def shipped_reader() -> ExcerptReader:
    """The reader of excerpts with the shipped formats and recoveries.

    Raises BadReadingError or BadPatternFileError if a file of the installation is missing or damaged.
    """
    folder = FOLDER / "reading"
    return ExcerptReader(
        read_formats(_text(folder / "formats.yaml")), read_recoveries(_text(folder / "recoveries.yaml"))
    )


@lru_cache(maxsize=1)
def harmless_lines() -> tuple[str, ...]:
    """Lines of programs that report no error: a pattern of an error may match none of them."""
    return tuple(line for line in _text(FOLDER / _HARMLESS).splitlines() if line.strip())


def read_file(path: Path) -> tuple[DescribedPattern, ...]:
    """Read a file of patterns; it may use the words of the shipped ones. Raises BadPatternFileError."""
    return read_patterns(_text(path), path.name, read_words(_text(FOLDER / _WORDS)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadPatternFileError(f"{path} cannot be read: {error}.", advice="Name a file of patterns.") from error
