"""The small real application of the flows' tests."""

from __future__ import annotations

from tests.e2e.flows.conftest import place

__all__ = ["place"]
