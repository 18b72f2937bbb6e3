"""What the tests of several folders share."""

from __future__ import annotations

import os

from tests.support.engines import engine_of_the_session, own_engine
from tests.support.prefect_server import prefect_server

# A `roas serve` of the person who runs the tests has left its address and password in the checkout.
os.environ["PREFECT_PROFILES_PATH"] = os.devnull

__all__ = ["engine_of_the_session", "own_engine", "prefect_server"]
