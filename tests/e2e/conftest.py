"""A registry of images for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.registry import Registry, registry


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "own") as made:
        yield made
