"""Retention: the five steps of the life cycle, each a task that can be repeated."""

from __future__ import annotations
