"""Migrations: one history a store, newest last. A history only grows."""
