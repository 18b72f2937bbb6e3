"""What folders of end-to-end tests share: a registry of images, and stores that have their tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.support.registry import Registry, registry


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry") / "own") as made:
        yield made


@pytest.fixture(scope="session")
def made_stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose stores have their tables: to make them takes far longer than to copy them."""
    folder = tmp_path_factory.mktemp("made") / "data"
    Stores.open(Settings(data_dir=folder)).close()
    return folder
