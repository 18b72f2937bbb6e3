"""Read the time that the engine puts before each line of a log."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def without_stamp(line: str) -> str:
    """A line of a log without the engine's time stamp before it."""
    return line.partition(" ")[2] if stamp_of(line) is not None else line


def stamp_of(line: str) -> datetime | None:
    """When the engine got a line; None for a line without its stamp."""
    word = line.partition(" ")[0]
    return moment_of(word) if len(word) >= len("2026-01-01T00:00:00Z") and word[10] == "T" else None


def earlier(text: str, by: timedelta) -> str:
    """A log with stamps that are so much earlier; a line without one stays as it is."""
    if not by:
        return text

    def move_stamp(line: str) -> str:
        at = stamp_of(line)
        return line if at is None else f"{(at - by).isoformat(timespec='microseconds')[:-6]}Z {without_stamp(line)}"

    return "\n".join(map(move_stamp, text.split("\n")))


def moment_of(text: str) -> datetime | None:
    """A time as the engine prints it, to the nanosecond; None where the text is none."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None
