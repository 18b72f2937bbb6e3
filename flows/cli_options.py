"""Options that several `roas` commands have."""

from __future__ import annotations

import click

as_json = click.option("--json", "json_wanted", is_flag=True, help="Print one JSON document, for programs.")
