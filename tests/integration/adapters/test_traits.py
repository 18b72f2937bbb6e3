"""Traits of services, as they are read from Compose's own rendering."""

from __future__ import annotations

from adapters.compose.traits import _programs


def test_a_client_that_names_a_user_is_no_server() -> None:
    assert "postgres" not in set(_programs(["psql", "-h", "db", "-U", "postgres", "-c", "select 1"], {"db"}))
    assert "postgres" in set(_programs(["sudo", "-u", "postgres", "postgres", "-D", "/var/lib/pg"], set()))
