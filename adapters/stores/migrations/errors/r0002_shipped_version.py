"""Note with each shipped pattern the set that it is from.

Revision ID: r0002
"""

from alembic import op

from adapters.stores.migrate import add_missing
from models.tables.errors import ErrorsRow

revision = "r0002"
down_revision = "r0001"


def upgrade() -> None:
    """Add the column, unless `r0001` made the table with it."""
    add_missing(op.get_bind(), ErrorsRow.metadata)
