"""Pages of the reference, written from the code when the site is built; nothing else says the same a second time."""

from __future__ import annotations

from deployments.docs.reference.commands import commands_page
from deployments.docs.reference.environment import environment_page, probes_page
from deployments.docs.reference.errors import errors_page
from deployments.docs.reference.events import events_page
from deployments.docs.reference.fields import fields_page
from deployments.docs.reference.metrics import metrics_page
from deployments.docs.reference.operations import operations_page
from deployments.docs.reference.settings import settings_page
from deployments.docs.reference.tables import tables_page

PAGES = {
    "reference/commands.md": commands_page,
    "reference/environment.md": environment_page,
    "reference/probes.md": probes_page,
    "reference/settings.md": settings_page,
    "reference/errors.md": errors_page,
    "reference/tables.md": tables_page,
    "reference/metrics.md": metrics_page,
    "reference/events.md": events_page,
    "reference/operations.md": operations_page,
    "reference/fields.md": fields_page,
}
"""What writes each page, by its place in the site."""
