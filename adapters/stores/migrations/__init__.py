"""Migrations: one history a store, newest last. A history only grows.

The first revision makes the tables from their row classes, so that it also completes files from before the first
release. A later revision that changes a table must therefore accept a table that has the change already.
"""
