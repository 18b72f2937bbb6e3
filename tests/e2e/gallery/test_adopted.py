"""Applications of public Compose files start as `roas init` proposes it: each service is proven, or a line says what it
needs, and nothing that works without the proposal breaks by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.gallery.adopted import adopt, build_images, read_applications
from tests.support.prefect_server import server_variables

pytestmark = [pytest.mark.engine, pytest.mark.flow]

APPLICATIONS = read_applications()


@pytest.mark.parametrize("name", APPLICATIONS)
@pytest.mark.campaign(seconds=30)
def test_starts_as_proposed(name: str, prefect_server: None, tmp_path: Path) -> None:
    application = APPLICATIONS[name]
    build_images([application])

    adopted = adopt(application, tmp_path / name, server_variables())

    assert adopted.harmed == (), adopted.output
    assert sorted(adopted.explained) == sorted(application.unproven), adopted.output
    assert adopted.is_whole, adopted.output
