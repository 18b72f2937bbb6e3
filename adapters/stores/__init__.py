"""The three stores: deployment_logs.db, monitoring.db and errors.db."""

from adapters.stores.stores import Stores
from adapters.stores.transactions import Together

__all__ = ["Stores", "Together"]
