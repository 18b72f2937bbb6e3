"""The page of fields: what each field of the page means, in the sentences of its tooltips."""

from __future__ import annotations

from core.reporting.field_words import COLUMNS, FIELDS
from deployments.docs.reference.markdown import page, table


def fields_page() -> str:
    """Every field with its sentence."""
    return page(
        "Fields of the page",
        "What the fields of [the page](../how-to/the-page.md) mean, which they show where the pointer rests on them.",
        table(("field", "meaning"), FIELDS.items()),
        "## Columns of reports and post-mortems",
        table(("column", "meaning"), COLUMNS.items()),
    )
