"""An environment whose Compose files come from a repository: what it names has to be in it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from models.environments import Environment
from models.sources import OciSource

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


ARTIFACT = SHOP | {"source": {"oci": "registry.example/ann/shop:v1"}, "secrets": []}


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("registry.example/shop", ("registry.example", "shop", "", "")),
        ("localhost:5000/ann/shop:v1.2_x", ("localhost:5000", "ann/shop", "v1.2_x", "")),
        (f"10.0.0.1:443/a--b/c:v1@sha256:{'0a' * 32}", ("10.0.0.1:443", "a--b/c", "v1", "0a" * 32)),
        (f"localhost/shop@sha256:{'0' * 64}", ("localhost", "shop", "", "0" * 64)),
    ],
)
def test_an_artifact_has_a_registry_a_name_a_tag_and_a_digest(address: str, parts: tuple[str, ...]) -> None:
    assert OciSource(oci=address).parts == parts


@pytest.mark.parametrize(
    "address",
    [
        *(
            "shop",
            "ann/shop",
            "shop:v1",
            "https://registry.example/shop",
            "oci://registry.example/shop",
            "a.b/",
            "a.b/C",
        ),
        *("a.b/x/../y", "a.b/x//y", "a.b/.x", "a.b/x:", "a.b/x:v/1", "a.b/x@sha256:0", "a.b/x@md5:00", "ann:pw@a.b/x"),
        *("a.b/x:v1\n", "-a.b/x", "a.b/x y", "a.b/x?y=1", "a.b/x#y"),
    ],
)
def test_what_is_no_address_of_an_artifact_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="allowed are REGISTRY/NAME"):
        Environment.model_validate(ARTIFACT | {"source": {"oci": address}})


def test_each_kind_of_source_has_fields_of_its_own() -> None:
    assert isinstance(Environment.model_validate(ARTIFACT).source, OciSource)
    with pytest.raises(ValidationError, match=r"source\.oci\.branch\n"):
        Environment.model_validate(ARTIFACT | {"source": {"oci": "a.b/c", "branch": "main"}})
    with pytest.raises(ValidationError, match=r"source\.git\.verify\n"):
        Environment.model_validate(SHOP | {"source": {"repository": "/srv/shop", "verify": {"key": "x"}}})
    with pytest.raises(ValidationError, match="this is 0 or at least 30"):
        Environment.model_validate(ARTIFACT | {"source": {"oci": "a.b/c", "check_every_seconds": 5}})
    with pytest.raises(ValidationError, match="leads out of the checkout"):
        Environment.model_validate(ARTIFACT | {"compose_files": ["../compose.yaml"]})
