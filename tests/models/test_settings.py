"""Settings come from the process environment, with a default for each."""

import pytest

from models.settings import Settings


@pytest.mark.parametrize("name", Settings.model_fields)
def test_an_empty_variable_counts_as_not_set(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"ROAS_{name.upper()}", "")
    assert getattr(Settings(), name) == Settings.model_fields[name].default
