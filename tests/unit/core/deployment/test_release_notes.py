"""What is said of the change from one image to the next."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from core.common.stamps import moment_of
from core.deployment.release_notes import (
    MOST_COMMITS,
    note_lines,
    read_labels,
    record_of,
    redact_note,
    release_note,
    revisions,
    with_commits,
)
from core.errors.redact import Redactor
from models.compose import ImageFact, ImageLabels

OLD = ImageFact(
    reference="web:1",
    image_id="sha256:old",
    created_at=datetime(2026, 11, 20, 10, tzinfo=UTC),
    labels=ImageLabels(version="1.2", revision="abc1234" + "0" * 33),
)
NEW = ImageFact(
    reference="web:1",
    image_id="sha256:new",
    created_at=datetime(2026, 11, 26, 9, 30, tzinfo=UTC),
    labels=ImageLabels(version="1.3", revision="def5678" + "0" * 33, source="https://git.example/web"),
)


def test_labels_are_read_on_one_line_each_and_times_as_moments() -> None:
    prefix = "org.opencontainers.image."
    labels = read_labels(
        {
            f"{prefix}version": "1.3\n2.0",
            f"{prefix}title": "Web \x1b[31mshop\x1b]0;owned\x07",
            f"{prefix}created": "2026-11-26T09:30:00Z",
            f"{prefix}description": "x" * 500,
            "other": "ignored",
        },
        moment_of,
    )
    assert labels.version == "1.3 2.0"
    assert "\x1b" not in labels.title
    assert "\x07" not in labels.title
    assert labels.created_at == datetime(2026, 11, 26, 9, 30, tzinfo=UTC)
    assert len(labels.description) == 120


def test_labels_that_are_no_text_say_nothing_wrong() -> None:
    prefix = "org.opencontainers.image."
    assert read_labels({f"{prefix}created": "yesterday", f"{prefix}version": None}, moment_of) == ImageLabels()


def test_a_note_names_version_revision_time_and_source() -> None:
    assert release_note("web", OLD, NEW).text == (
        "web 1.2 -> 1.3, revision abc1234 -> def5678, created 2026-11-20 10:00 -> 2026-11-26 09:30, "
        "source https://git.example/web"
    )


def test_a_note_of_images_without_labels_has_their_times() -> None:
    old, new = (replace(one, labels=ImageLabels()) for one in (OLD, NEW))
    assert release_note("web", old, new).text == "web: created 2026-11-20 10:00 -> 2026-11-26 09:30"
    assert release_note("web", None, replace(new, created_at=None)).text == (
        "web: its new image does not say what it is"
    )


def test_the_same_version_of_another_commit_is_named_once() -> None:
    same = replace(NEW, labels=replace(NEW.labels, version="1.2"))
    assert release_note("web", OLD, same).text.startswith("web 1.2, revision abc1234 -> def5678")


def test_a_new_image_that_lost_its_version_is_said_to() -> None:
    bare = replace(NEW, labels=ImageLabels())
    assert release_note("web", OLD, bare).text.startswith("web 1.2 -> not said, revision abc1234 -> not said")


def test_before_the_fetch_the_note_says_when_it_will_be_known() -> None:
    assert release_note("web", OLD, None, to_come="fetched").text == (
        "web 1.2, revision abc1234, created 2026-11-20 10:00; its new image is known once it is fetched"
    )
    assert release_note("web", None, None, to_come="built").text == "web; its new image is known once it is built"


def test_the_time_of_the_label_comes_before_that_of_the_image() -> None:
    labelled = replace(NEW, labels=replace(NEW.labels, created_at=datetime(2026, 11, 25, tzinfo=UTC)))
    assert "-> 2026-11-25 00:00" in release_note("web", OLD, labelled).text


def test_commits_are_asked_for_between_two_different_hexadecimal_revisions_only() -> None:
    note = release_note("web", OLD, NEW)
    assert revisions(note) == (OLD.labels.revision, NEW.labels.revision)
    assert revisions(release_note("web", OLD, OLD)) is None
    for hostile in ("", "--output=/etc/passwd", "main", "abc1234;reboot", "abc12"):
        bad = replace(NEW, labels=replace(NEW.labels, revision=hostile))
        assert revisions(release_note("web", OLD, bad)) is None


def test_at_most_twenty_commits_are_shown_and_the_rest_counted() -> None:
    note = with_commits(release_note("web", OLD, NEW), [f"Change {number}" for number in range(MOST_COMMITS + 3)])
    assert len(note.commits) == MOST_COMMITS
    lines = note_lines(note)
    assert lines[-1] == "  and 3 more"
    assert lines[1] == "  Change 0"


def test_subjects_move_no_cursor() -> None:
    (subject,) = with_commits(release_note("web", OLD, NEW), ["Fix \x1b[2Jall\u202e"]).commits
    assert subject == r"Fix \x1b[2Jall\u202e"


def test_a_secret_in_a_label_or_subject_is_redacted() -> None:
    secret = "correct-horse-battery"
    new = replace(NEW, labels=replace(NEW.labels, version=secret, source="https://user:hunter22@git.example/web"))
    note = redact_note(with_commits(release_note("web", OLD, new), [f"Use {secret}"]), Redactor([secret]).text)
    assert secret not in str(note)
    assert "hunter22" not in str(note)


def test_the_record_of_an_operation_gives_the_same_lines() -> None:
    note = with_commits(release_note("web", OLD, NEW), ["One", "Two"])
    assert note_lines(record_of(note)) == note_lines(note) == [note.text, "  One", "  Two"]
