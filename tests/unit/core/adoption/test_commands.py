"""What a command starts, and where it listens."""

from __future__ import annotations

import pytest

from core.adoption.commands import read_command


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ("psql -h db -U postgres -c select", ("psql",)),
        ("sudo -u postgres postgres -D /var/lib/pg", ("postgres",)),
        ("tini -- gunicorn app:app", ("gunicorn",)),
        ("-c /etc/shop.conf", ()),
        ("sh -e psql", ("psql",)),
    ],
)
def test_the_program_of_a_command_is_what_it_starts_and_not_what_it_names(
    command: str, programs: tuple[str, ...]
) -> None:
    assert read_command(command.split()).programs == programs


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        ("uv run gunicorn app:app", ("gunicorn",)),
        ("poetry run gunicorn app:app", ("gunicorn",)),
        ("pipenv run gunicorn app:app", ("gunicorn",)),
        ("pdm run gunicorn app:app", ("gunicorn",)),
        ("hatch run gunicorn app:app", ("gunicorn",)),
        ("bundle exec puma -p 3000", ("puma",)),
        ("poetry --no-ansi run gunicorn app:app", ("gunicorn",)),
        ("poetry install", ("poetry",)),
        ("bundle install", ("bundle",)),
    ],
)
def test_a_package_manager_starts_what_stands_behind_its_verb(command: str, programs: tuple[str, ...]) -> None:
    assert read_command(command.split()).programs == programs
