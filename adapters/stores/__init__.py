"""The three stores: deployment_logs.db, monitoring.db and errors.db."""

from adapters.stores.stores import Stores

__all__ = ["Stores"]
