from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores
from models.settings import Settings
from tests.support.postgresql_server import PostgresqlForTests, postgresql


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "files: is about the stores as SQLite files; all others run on both databases")
    config.addinivalue_line("markers", "shared: is about stores that several hosts share, which SQLite files are not")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "settings" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        kinds = ["sqlite"] if marked("files") else ["postgresql"] if marked("shared") else ["sqlite", "postgresql"]
        metafunc.parametrize("settings", kinds, indirect=True)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path / "data")
        return
    with request.getfixturevalue("server").database() as url:
        yield Settings(data_dir=tmp_path / "data", stores_url=url)


@pytest.fixture
def stores(settings: Settings) -> Iterator[Stores]:
    with Stores.open(settings) as opened:
        yield opened
