"""Stores are made and upgraded in a process that ends, and what that takes does not stay."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from adapters.stores import Stores
from adapters.stores.migrate import HEADS, file_revision
from models.settings import Settings

_PROGRAM = """
import sys
from flows.common.made_stores import make_stores
from models.settings import current_settings
make_stores(current_settings())
print(sorted({name.partition(".")[0] for name in sys.modules} & {"alembic", "mako"}))
"""


def test_makes_the_stores_and_leaves_their_migrations_behind(tmp_path: Path) -> None:
    done = _run(tmp_path)

    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr
    settings = Settings(data_dir=tmp_path / "data")
    assert {store: file_revision(settings.store_path(store)) for store in HEADS} == HEADS


def test_leaves_a_folder_that_cannot_be_made_to_the_next_opening(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("no folder")

    done = _run(tmp_path)

    assert done.returncode == 0, done.stderr
    assert (tmp_path / "data").read_text() == "no folder"


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    variables = os.environ | {"ROAS_DATA_DIR": str(folder / "data"), "PYTHONPATH": str(Path(__file__).parents[3])}
    return subprocess.run([sys.executable, "-c", _PROGRAM], env=variables, capture_output=True, text=True, check=False)


def test_threads_make_stores_at_the_same_time(tmp_path: Path) -> None:
    def make(folder: Path) -> list[str | None]:
        settings = Settings(data_dir=folder)
        with Stores.open(settings):
            return [file_revision(settings.store_path(store)) for store in HEADS]

    with ThreadPoolExecutor(4) as beside:
        made = list(beside.map(make, [tmp_path / str(number) for number in range(4)]))

    assert made == [list(HEADS.values())] * 4
