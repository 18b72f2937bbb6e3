"""What a checkout is after `git pull` has brought a later version."""

from __future__ import annotations

import re
from pathlib import Path

from adapters.stores.migrate import HEADS

VERSION = "99.0.0"

_MIGRATION = '''"""Make a table of the later version."""

from alembic import op

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
    op.execute("CREATE TABLE of_the_later_version (id INTEGER)")
'''


def bring_later_version(checkout: Path) -> None:
    """Give it another number and a migration of each store, and let it no longer schedule `drift/prod`."""
    _change(checkout / "pyproject.toml", r'^version = "[^"]+"', f'version = "{VERSION}"')
    _change(checkout / "prefect.yaml", r"(drift\.drift, schedules:) \*prod_hourly", r"\1 []")
    for store, before in HEADS.items():
        revision = f"r{int(before[1:]) + 1:04}"
        folder = checkout / "adapters" / "stores"
        _change(folder / "migrate.py", rf'"{store}": "{before}"', f'"{store}": "{revision}"')
        migration = folder / "migrations" / store / f"{revision}_later.py"
        migration.write_text(_MIGRATION.format(revision=revision, before=before))


def _change(file: Path, pattern: str, by: str) -> None:
    text, times = re.subn(pattern, by, file.read_text(), flags=re.MULTILINE)
    assert times == 1, f"{pattern} is {times} times in {file}"
    file.write_text(text)
