"""What the tests of several folders share."""

from __future__ import annotations

from tests.engines import engine_of_the_session, own_engine

__all__ = ["engine_of_the_session", "own_engine"]
