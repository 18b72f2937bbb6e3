"""Judge what a database server answered: rows and value of a query, and replication."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.probes.outcome import ProbeFailed, brief
from models.analysis import Level
from models.environments import SqlProbe
from models.health import Reading


def judge_rows(probe: SqlProbe, rows: Sequence[Sequence[object]]) -> str:
    """Say what the query returned.

    Raises:
        ProbeFailed: It is not what the probe expects.
    """
    returned = f"query {brief(probe.query)!r} returned"
    if probe.rows is not None and len(rows) != probe.rows:
        raise ProbeFailed(f"{returned} {_rows(len(rows))}, not {probe.rows}")
    if probe.value is not None:
        if not rows or not rows[0]:
            raise ProbeFailed(f"{returned} no row, so no value {probe.value!r}")
        if (value := as_text(rows[0][0])) != probe.value:
            raise ProbeFailed(f"{returned} {brief(value)!r}, not {probe.value!r}")
    return f"{returned} {_rows(len(rows))}"


def lag_reading(seconds: float, limit: float) -> Reading:
    """How far a server is behind its primary, which degrades it beyond the limit."""
    late = seconds > limit
    return Reading(
        metric="replication_lag_seconds",
        value=seconds,
        words=f"it is {seconds:.1f} s behind its primary{f', more than {limit:g} s' if late else ''}",
        concern=Level.WARNING if late else Level.NONE,
        threshold=limit if late else None,
        degrades=late,
    )


def as_text(value: object) -> str:
    """A value of a database as its client program shows it."""
    if isinstance(value, bytes | bytearray):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, bool):
        return str(value).lower()
    return "NULL" if value is None else str(value)


def _rows(count: int) -> str:
    return f"{count} row{'' if count == 1 else 's'}"
