"""Which digest of an image is its own."""

from __future__ import annotations

import pytest

from models.compose import ImageFact

OURS, ELSEWHERE = "localhost:5000/shop/web@sha256:11", "127.0.0.1:37231/web@sha256:11"


@pytest.mark.parametrize(
    "image", ["localhost:5000/shop/web", "localhost:5000/shop/web:2", "localhost:5000/shop/web:2@sha256:99", OURS]
)
def test_the_digest_under_its_own_name_is_taken(image: str) -> None:
    fact = ImageFact(reference="x", image_id="sha256:22", digests=(ELSEWHERE, OURS))

    assert fact.digest_under(image) == OURS
    assert fact.digest_under("sha256:22", image) == OURS


@pytest.mark.parametrize(
    "image", ["debian:13", "library/debian:13", "docker.io/library/debian:13", "index.docker.io/debian"]
)
def test_two_spellings_of_a_name_are_one(image: str) -> None:
    fact = ImageFact(reference="x", image_id="sha256:22", digests=(ELSEWHERE, "debian@sha256:33"))

    assert fact.digest_under(image) == "debian@sha256:33"


def test_any_is_taken_where_none_is_under_its_name() -> None:
    assert ImageFact(reference="x", image_id="y", digests=(ELSEWHERE,)).digest_under("shop", "") == ELSEWHERE
    assert ImageFact(reference="x", image_id="y").digest_under("shop") == ""
