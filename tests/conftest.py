"""What the tests of several folders share."""

from __future__ import annotations

import os
from collections.abc import Iterable

import pytest

from tests.support.engines import engine_of_the_session, own_engine
from tests.support.prefect_server import prefect_server

# A `roas serve` of the person who runs the tests has left its address and password in the checkout.
os.environ["PREFECT_PROFILES_PATH"] = os.devnull

__all__ = ["engine_of_the_session", "own_engine", "prefect_server"]

# Their tests take longest, so they begin first: otherwise one worker runs them alone at the end.
_LONGEST_FIRST = (
    "test_control_plane",
    "test_server_security",
    "test_caddy",
    "test_special",
    "test_interruption",
    "test_campaign",
    "test_sample",
    "test_outages",
    "test_faults",
    "test_releases",
    "test_evidence",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share something on one worker, and begin with those that take longest."""
    for item in items:
        if isinstance(item, pytest.Function) and _shares_with_its_file(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    items.sort(key=_place)


def _shares_with_its_file(item: pytest.Function) -> bool:
    """Report whether a test uses a fixture of its module, or the one engine that a test may stop."""
    definitions: Iterable[pytest.FixtureDef[object]] = (
        one for several in item._fixtureinfo.name2fixturedefs.values() for one in several
    )
    return any(one.scope == "module" or one.argname == "own_engine" for one in definitions)


def _place(item: pytest.Item) -> int:
    name = item.path.stem
    return _LONGEST_FIRST.index(name) if name in _LONGEST_FIRST else len(_LONGEST_FIRST)
