"""An environment whose Compose files come from a repository: what it names has to be in it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.environments import Environment

SHOP: dict[str, Any] = {
    "name": "shop",
    "project": "shop",
    "compose_files": ["compose.yaml"],
    "secrets": [{"name": "TOKEN", "file": "token"}],
    "source": {"repository": "https://git.example/shop.git", "token_secret": "TOKEN"},
}


def test_a_source_names_secrets_of_its_environment() -> None:
    source = Environment.model_validate(SHOP).source

    assert source is not None
    assert source.secrets == ("TOKEN",)
    with pytest.raises(ValidationError, match="source names the secret 'TOKEN', which is not in secrets"):
        Environment.model_validate(SHOP | {"secrets": []})


@pytest.mark.parametrize("field", ["compose_files", "env_files"])
def test_no_file_leads_out_of_the_checkout(field: str) -> None:
    with pytest.raises(ValidationError, match="leads out of the checkout"):
        Environment.model_validate(SHOP | {field: ["../shop.yaml"]})
