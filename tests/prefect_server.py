"""One Prefect server of the tests' own, for all that runs flows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A server that every flow run of the session is recorded by."""
    # Prefect takes seconds to import, which tests without flows need not wait for.
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
