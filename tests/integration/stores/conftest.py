import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.stores import Stores, archiver
from models.settings import Settings
from tests.support.forked import start_archiver
from tests.support.postgresql_server import PostgresqlForTests, postgresql


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "files: is about the stores as SQLite files; all others run on both databases")
    config.addinivalue_line("markers", "shared: is about stores that several hosts share, which SQLite files are not")
    config.addinivalue_line("markers", "new_archiver: its archiver is a new interpreter, as in use, and no fork of one")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "settings" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker
        kinds = ["sqlite"] if marked("files") else ["postgresql"] if marked("shared") else ["sqlite", "postgresql"]
        metafunc.parametrize("settings", kinds, indirect=True)


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresqlForTests]:
    with postgresql() as started:
        yield started


@pytest.fixture(scope="session")
def made_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with stores that have their tables and the shipped patterns, and nothing else."""
    folder = tmp_path_factory.mktemp("made") / "data"
    Stores.open(Settings(data_dir=folder)).close()
    return folder


@pytest.fixture(autouse=True)
def _archivers_begin_at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("new_archiver") is None:
        monkeypatch.setattr(archiver, "_start", start_archiver)


@pytest.fixture
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Stores that were never opened: files that are not there, or schemas with nothing in them."""
    if request.param == "sqlite":
        yield Settings(data_dir=tmp_path / "data")
        return
    with request.getfixturevalue("server").database() as url:
        yield Settings(data_dir=tmp_path / "data", stores_url=url)


@pytest.fixture
def made(settings: Settings, made_files: Path) -> Settings:
    """Stores whose tables are there: to make them takes ten times as long as to copy their files."""
    if settings.stores_url is None:
        shutil.copytree(made_files, settings.data_dir)
    return settings


@pytest.fixture
def stores(made: Settings) -> Iterator[Stores]:
    with Stores.open(made) as opened:
        yield opened
