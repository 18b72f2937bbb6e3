"""The breaks of Python with MariaDB."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.faults.breaks import BREAKS, Break, applications, check
from tests.e2e.faults.programs import BrokenApp

# One worker takes them all: scope="module" has the fixture that makes the application.
pytestmark = [pytest.mark.engine, pytest.mark.flow, pytest.mark.campaign(seconds=30)]

__all__ = ["applications"]


@pytest.mark.parametrize("broken", BREAKS["notes"], ids=lambda one: str(one.name))
def test_a_break_is_reported_truly_with_the_command_that_mends_it_and_in_one_message(
    applications: Callable[[str], BrokenApp],
    broken: Break,
) -> None:
    check(applications("notes"), broken)
