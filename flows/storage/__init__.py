"""The life cycle of stored data."""
