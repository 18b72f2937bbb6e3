"""Identifiers a person can read, sort and type by their first letters."""

from __future__ import annotations

import secrets
from datetime import datetime


def new_operation_id(environment: str, now: datetime) -> str:
    """For one operation of an environment, or a maintenance; it sorts by time, and two of one second differ."""
    return f"{environment}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def new_evidence_id(now: datetime) -> str:
    """For one bundle of evidence."""
    return f"ev-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def new_release_id(now: datetime) -> str:
    """For what a proven start left running."""
    return f"r-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def new_snapshot_id(now: datetime) -> str:
    """For one snapshot of an environment's data."""
    return f"s-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def new_error_id(now: datetime) -> str:
    """For one recorded error."""
    return f"err-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def new_ticket_id(now: datetime) -> str:
    """For one manual-intervention ticket; short, since a person types it."""
    return f"T-{now:%y%m%d}-{secrets.token_hex(2)}"
