"""Where an environment's repository and checkouts are in the data folder."""

from __future__ import annotations

from pathlib import Path

SOURCES = "sources"


def source_folder(data_dir: Path, environment: str) -> Path:
    """The folder of an environment's repository and checkouts."""
    return data_dir.absolute() / SOURCES / environment


def current_checkout(data_dir: Path, environment: str) -> Path:
    """The link to the current checkout: the same path for every revision, whether it exists yet or not."""
    return source_folder(data_dir, environment) / "current"
