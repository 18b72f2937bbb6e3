"""What a guide calls tested is what the tests run."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.support.fronts import CADDY, HAPROXY, NGINX

GUIDE = Path(__file__).parents[3] / "docs/how-to/deploy-without-interruption.md"
_LOCATION = textwrap.dedent("\n".join(NGINX.splitlines()[6:10]))


@pytest.mark.parametrize("text", [_LOCATION, CADDY, HAPROXY], ids=["nginx", "caddy", "haproxy"])
def test_the_guide_shows_the_proxy_configurations_of_the_tests(text: str) -> None:
    assert f"\n{text.rstrip()}\n```" in GUIDE.read_text()
