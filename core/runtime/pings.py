"""Decide what an outside service hears of this system: that all is well, that it began, or that it fails."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum


class PingSignal(StrEnum):
    """What a ping says, as healthchecks.io has it at the end of the address."""

    WELL = ""
    START = "start"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class PingState:
    """What was sent so far. `away_since` is a moment of the monotonic clock, in seconds."""

    started: bool = False
    away_since: float | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Ping:
    """One ping; `text` is its body."""

    signal: PingSignal
    text: str = ""


def next_ping(
    state: PingState, troubles: Sequence[str], now: float, *, after: timedelta
) -> tuple[tuple[Ping, ...], PingState]:
    """The pings that are due now, and the state after them.

    While all is well one is due each time. While anything is away none is, so that the service misses it; after so long
    it gets one report that this system fails, and why.
    """
    first = () if state.started else (Ping(PingSignal.START),)
    state = replace(state, started=True)
    if not troubles:
        return (*first, Ping(PingSignal.WELL)), PingState(started=True)
    since = now if state.away_since is None else state.away_since
    state = replace(state, away_since=since)
    if state.failed or now - since < after.total_seconds():
        return first, state
    minutes = (now - since) / 60
    text = f"{'; '.join(troubles)} (for {minutes:.0f} min)"
    return (*first, Ping(PingSignal.FAIL, text)), replace(state, failed=True)
