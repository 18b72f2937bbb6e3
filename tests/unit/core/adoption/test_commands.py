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
    ],
)
def test_the_program_of_a_command_is_what_it_starts_and_not_what_it_names(
    command: str, programs: tuple[str, ...]
) -> None:
    assert read_command(command.split()).programs == programs
