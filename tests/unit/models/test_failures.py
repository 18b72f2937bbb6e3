"""The text of an error: what failed, then what to try."""

from __future__ import annotations

import pytest

from models.failures import RoasError


@pytest.mark.parametrize(
    ("what", "advice", "text"),
    [
        ("did not find expected key", "Correct the file.", "did not find expected key. Correct the file."),
        (
            "No release has the id 'x';",
            "`roas releases` lists them.",
            "No release has the id 'x'; `roas releases` lists them.",
        ),
        (
            "The engine did not answer (refused);",
            "is it running?",
            "The engine did not answer (refused); is it running?",
        ),
        (
            "web: it exits again and again, last: exit code 1",
            "see its evidence: roas why shop --evidence",
            "web: it exits again and again, last: exit code 1; see its evidence: roas why shop --evidence",
        ),
        ("The engine refused (busy)", "Try again.", "The engine refused (busy). Try again."),
        ('It printed "No space left."', "Free some.", 'It printed "No space left." Free some.'),
        ("It failed.", "", "It failed."),
        ("It failed", "", "It failed"),
    ],
)
def test_an_error_reads_as_sentences(what: str, advice: str, text: str) -> None:
    assert str(RoasError(what, advice=advice)) == text
