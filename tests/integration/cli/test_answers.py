"""`roas webhooks` says what it lacks before it starts anything."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.main import roas
from models.failures import BadInputError


def test_without_a_public_address_there_is_nothing_to_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROAS_ANSWERS_URL", raising=False)
    done = CliRunner().invoke(roas, ["webhooks"])
    assert isinstance(done.exception, BadInputError)
    assert "ROAS_ANSWERS_URL" in str(done.exception)


@pytest.mark.parametrize("address", ["ops.example", "https://ops.example/)[x](y", "javascript:alert(1)", "https://a b"])
def test_an_address_that_would_break_a_link_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("ROAS_ANSWERS_URL", address)
    done = CliRunner().invoke(roas, ["webhooks"])
    assert isinstance(done.exception, BadInputError)
    assert "ROAS_ANSWERS_URL" in str(done.exception)
