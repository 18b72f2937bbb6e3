"""Say what changes from one image of a service to the next, by what the images say of themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from core.common.safe_text import printable, shorten
from models.compose import ImageFact, ImageLabels, ReleaseNote
from models.operations.record import NoteRecord

MOST_COMMITS = 20
"""So many subjects of commits are shown."""

_LONGEST = 120
_HEX = re.compile(r"[0-9a-f]{7,64}")
_BRIEF = 7
_PREFIX = "org.opencontainers.image."


def read_labels(labels: Mapping[str, object], moment: Callable[[str], datetime | None]) -> ImageLabels:
    """Return what labels or annotations of the Open Container Initiative say, each on one short, safe line.

    `moment` reads a time, and gives None where the text is none.
    """

    def describe_note(name: str) -> str:
        return shorten(printable(str(labels.get(f"{_PREFIX}{name}") or "")), _LONGEST)

    names = ("title", "version", "revision", "source", "description")
    return ImageLabels(**{name: describe_note(name) for name in names}, created_at=moment(describe_note("created")))


def release_note(service: str, before: ImageFact | None, after: ImageFact | None, *, to_come: str = "") -> ReleaseNote:
    """Return what changes from one image to the other. `to_come` says when a missing new image is known."""
    old, new = _labels(before), _labels(after)
    if new is None:
        summary = ", ".join(filter(None, (old.version, *_rest(old)))) if old is not None else ""
        text = f"{service}{summary and f' {summary}'}; its new image is known once it is {to_come}"
        return ReleaseNote(service=service, text=text, before=old)
    versions = _arrow(old.version if old else "", new.version)
    parts = [
        _name_of("revision", _arrow(_short(old.revision) if old else "", _short(new.revision))),
        _name_of("created", _arrow(_day(old.created_at) if old else "", _day(new.created_at))),
        _name_of("source", new.source),
    ]
    details = ", ".join(filter(None, parts))
    if versions:
        text = f"{service} {versions}, {details}" if details else f"{service} {versions}"
    else:
        text = f"{service}: {details or 'its new image does not say what it is'}"
    return ReleaseNote(service=service, text=text, before=old, after=new)


def revisions(note: ReleaseNote) -> tuple[str, str] | None:
    """Return the commits between which a note's image changed; None where its images name no two commits."""
    if note.before is None or note.after is None:
        return None
    pair = (note.before.revision, note.after.revision)
    return pair if all(_HEX.fullmatch(revision) for revision in pair) and pair[0] != pair[1] else None


def with_commits(note: ReleaseNote, subjects: Sequence[str]) -> ReleaseNote:
    """Return the note with the subjects of commits, newest first, of which the first ones are shown."""
    shown = tuple(shorten(printable(subject), _LONGEST) for subject in subjects[:MOST_COMMITS])
    return replace(note, commits=shown, more_commits=max(0, len(subjects) - MOST_COMMITS))


def redact_note(note: ReleaseNote, redact: Callable[[str], str]) -> ReleaseNote:
    """Return the note with every text redacted."""

    def note_of(labels: ImageLabels | None) -> ImageLabels | None:
        if labels is None:
            return None
        return replace(
            labels,
            title=redact(labels.title),
            version=redact(labels.version),
            revision=redact(labels.revision),
            source=redact(labels.source),
            description=redact(labels.description),
        )

    return replace(
        note,
        text=redact(note.text),
        before=note_of(note.before),
        after=note_of(note.after),
        commits=tuple(redact(subject) for subject in note.commits),
    )


def record_of(note: ReleaseNote) -> NoteRecord:
    """Return a note as the record of an operation keeps it."""
    more = {name: value for name in ("commits", "more_commits") if (value := getattr(note, name))}
    return NoteRecord(service=note.service, text=note.text, **more)


def note_lines(note: ReleaseNote | NoteRecord) -> list[str]:
    """Return the lines that show one note, subjects of commits indented."""
    more = [f"  and {note.more_commits} more"] if note.more_commits else []
    return [note.text, *(f"  {commit}" for commit in note.commits), *more]


def _labels(fact: ImageFact | None) -> ImageLabels | None:
    if fact is None:
        return None
    labels = fact.labels
    return replace(labels, created_at=labels.created_at or fact.created_at)


def _rest(labels: ImageLabels) -> list[str]:
    return [_name_of("revision", _short(labels.revision)), _name_of("created", _day(labels.created_at))]


def _name_of(name: str, text: str) -> str:
    return f"{name} {text}" if text else ""


def _arrow(old: str, new: str) -> str:
    if not old or old == new:
        return new
    return f"{old} -> {new or 'not said'}"


def _short(revision: str) -> str:
    return revision[:_BRIEF] if _HEX.fullmatch(revision) else revision


def _day(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else ""
