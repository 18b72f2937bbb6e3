"""Rows of the three stores, one registry a store."""
