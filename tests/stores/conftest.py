from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    with Stores.open(settings) as opened:
        yield opened
