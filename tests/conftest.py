"""What the tests of several folders share."""

from __future__ import annotations

from tests.engines import engine_of_the_session, own_engine
from tests.prefect_server import prefect_server

__all__ = ["engine_of_the_session", "own_engine", "prefect_server"]
