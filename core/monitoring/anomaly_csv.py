"""Score the values of a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from core.monitoring.detector import TOO_LARGE, Detector
from models.failures import BadInputError


def detect_csv(lines: Iterable[str]) -> Iterator[str]:
    """Score a CSV with the columns timestamp and value: the same rows, with anomaly_score beside them.

    An empty timestamp is allowed. Raises BadInputError naming the line that cannot be used.
    """
    rows = csv.reader(lines)
    advice = "give one timestamp and one value a line."
    try:
        header = [name.strip().lstrip("\ufeff") for name in next(rows, [])]
        if header != ["timestamp", "value"]:
            raise BadInputError(
                f"Line 1 should be the header 'timestamp,value', not {','.join(header)!r};",
                advice="give a CSV with these two columns.",
            )
        yield "timestamp,value,anomaly_score"
        detector = Detector()
        for row in filter(None, rows):
            if len(row) != len(header):
                raise BadInputError(f"Line {rows.line_num} has {len(row)} columns instead of 2;", advice=advice)
            score = detector.update(_time(row[0], rows.line_num), _number(row[1], rows.line_num))
            yield f"{row[0]},{row[1]},{score.value:.6f}"
    except csv.Error as error:
        raise BadInputError(f"Line {rows.line_num} is not CSV: {error};", advice=advice) from error


def _time(text: str, line: int) -> datetime | None:
    if not text.strip():
        return None
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise BadInputError(
            f"Line {line} has {text!r} where a time should be;", advice="write it as 2026-03-02 14:05:00."
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _number(text: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise BadInputError(
            f"Line {line} has {text!r} where a number should be;", advice="leave the row out."
        ) from error
    if not abs(value) < TOO_LARGE:
        raise BadInputError(f"Line {line} has a value of {text}, which cannot be judged;", advice="leave it out.")
    return value
