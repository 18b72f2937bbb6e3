"""When an outside service is pinged, and when it gets the report of a failure."""

from __future__ import annotations

from datetime import timedelta

from core.runtime.pings import Ping, PingSignal, PingState, next_ping

AFTER = timedelta(minutes=5)
AWAY = ["host alpha does not reach the stores"]
WELL = Ping(PingSignal.WELL)


def test_the_first_ping_says_that_it_begins() -> None:
    pings, state = next_ping(PingState(), [], 0, after=AFTER)
    assert pings == (Ping(PingSignal.START), WELL)
    assert next_ping(state, [], 60, after=AFTER) == ((WELL,), state)


def test_while_anything_is_away_nothing_is_sent_until_it_is_reported_once() -> None:
    _, state = next_ping(PingState(), [], 0, after=AFTER)
    sent: list[Ping] = []
    for minute in range(1, 20):
        pings, state = next_ping(state, AWAY, 60.0 * minute, after=AFTER)
        sent += pings
    assert sent == [Ping(PingSignal.FAIL, "host alpha does not reach the stores (for 5 min)")]


def test_what_is_back_is_well_and_its_next_absence_is_reported_again() -> None:
    _, state = next_ping(PingState(started=True, away_since=0, failed=True), AWAY, 900, after=AFTER)
    pings, state = next_ping(state, [], 960, after=AFTER)
    assert pings == (WELL,)
    pings, state = next_ping(state, AWAY, 1020, after=AFTER)
    assert pings == ()
    pings, _ = next_ping(state, AWAY, 1320, after=AFTER)
    assert [one.signal for one in pings] == [PingSignal.FAIL]


def test_a_process_that_begins_while_the_stores_are_away_says_so_too() -> None:
    pings, state = next_ping(PingState(), AWAY, 0, after=AFTER)
    assert pings == (Ping(PingSignal.START),)
    assert state.away_since == 0
