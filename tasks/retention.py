"""Retention: the five steps of the life cycle, each a task that can be repeated."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from adapters.stores import lifecycle
from tasks.doors import open_stores
from tasks.patience import write
